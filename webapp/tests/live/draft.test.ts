import { beforeEach, describe, expect, it } from "vitest";

import { type Draft, EMPTY, EXAMPLE, missing, moved, request, store, stored, tooLong } from "../../src/live/draft";

const chat: Draft = { ...EMPTY, mode: "chat" };

describe("the request to the server", () => {
  it("has documents or messages, never both, and no empty ones", () => {
    const both: Draft = {
      ...EXAMPLE,
      documents: [...EXAMPLE.documents, { title: "left empty", text: "  \n" }],
      messages: [{ role: "user", content: "not this" }],
    };
    expect(request(both)).toMatchObject({ messages: [], question: EXAMPLE.question });
    expect(request(both).documents).toHaveLength(3);
    expect(request({ ...both, mode: "chat" })).toMatchObject({ documents: [], question: null });
    expect(request({ ...both, mode: "chat" }).messages).toEqual([{ role: "user", content: "not this" }]);
  });

  it("reports what is missing, one sentence at a time", () => {
    expect(missing(EXAMPLE)).toBeNull();
    expect(missing(EMPTY)).toBe("Write a question.");
    expect(missing(chat)).toBe("Write at least one message.");
    expect(missing({ ...EXAMPLE, answer: " " })).toMatch(/^Write the answer/);
    const turns: Draft = { ...chat, messages: [{ role: "user", content: "a" }, { role: "assistant", content: "b" }] };
    expect(missing(turns)).toMatch(/assistant/);
  });

  it("compares with the smaller of window and limit, and names it", () => {
    const count = { prompt_tokens: 1000, answer_tokens: 0, window: 8192, max_tokens: 1040 };
    expect(tooLong({ ...EXAMPLE, maxNewTokens: 40 }, count)).toBeNull();
    expect(tooLong({ ...EXAMPLE, maxNewTokens: 41 }, count)).toContain("1,041 tokens");
    expect(tooLong({ ...EXAMPLE, maxNewTokens: 41 }, count)).toContain("the limit set at loading");
    const given = { ...count, answer_tokens: 41, max_tokens: 5000, window: 1040 };
    expect(tooLong({ ...EXAMPLE, answer: "a", maxNewTokens: 1 }, given)).toContain("what the model can read");
    expect(tooLong(EXAMPLE, { ...count, window: null, max_tokens: 5000 })).toBeNull();
  });
});

describe("moving", () => {
  it("moves by one place and loses no element", () => {
    expect(moved(["a", "b", "c"], 0, 1)).toEqual(["b", "a", "c"]);
    expect(moved(["a", "b", "c"], 2, -1)).toEqual(["a", "c", "b"]);
    expect(moved(["a", "b", "c"], 0, -1)).toEqual(["a", "b", "c"]);
    expect(moved(["a", "b", "c"], 2, 1)).toEqual(["a", "b", "c"]);
  });
});

describe("the tab's storage", () => {
  beforeEach(() => sessionStorage.clear());

  it("returns the stored draft", () => {
    store(EXAMPLE);
    expect(stored()).toEqual(EXAMPLE);
  });

  it("is empty without a valid draft", () => {
    expect(stored()).toEqual(EMPTY);
    for (const nonsense of ["{", "[]", '{"mode":"documents"}', '{"mode":"chat","documents":[{}]}']) {
      sessionStorage.setItem("attributor.draft", nonsense);
      expect(stored()).toEqual(EMPTY);
    }
  });
});
