import { beforeEach, describe, expect, it } from "vitest";

import { EMPTY, EXAMPLE, isBlank } from "../../src/live/draft";
import { readDocuments } from "../../src/live/files";
import { followed, forget, remember } from "../../src/live/memory";

describe("files that become documents", () => {
  const file = (name: string, ...parts: BlobPart[]): File => new File(parts, name);

  it("takes UTF-8 and marked UTF-16, with Unix line ends, and the name as the title", async () => {
    const found = await readDocuments([
      file("a.b.txt", "eins\r\nzwei\rdrei"),
      file("noext", new Uint8Array([0xef, 0xbb, 0xbf, 0x78])),
      file("wide.txt", new Uint8Array([0xff, 0xfe, 0xe4, 0x00])),
      file("wider.txt", new Uint8Array([0xfe, 0xff, 0x00, 0xe4])),
    ]);
    expect(found).toEqual([
      { title: "a.b", text: "eins\nzwei\ndrei" },
      { title: "noext", text: "x" },
      { title: "wide", text: "ä" },
      { title: "wider", text: "ä" },
    ]);
  });

  it("refuses what is no text, and what is too long, and says what would work", async () => {
    expect(await readDocuments([file("a.txt", "fine"), file("b.pdf", "%PDF", new Uint8Array([0, 1]))])).toMatch(/^b\.pdf is no plain text\./);
    expect(await readDocuments([file("b.bin", new Uint8Array([0xc3, 0x28]))])).toMatch(/^b\.bin is no plain text\./);
    expect(await readDocuments([file("big.txt", new Uint8Array(8_000_001))])).toMatch(/^big\.txt has 8 MB: a document may have 8 MB/);
  });
});

describe("what would be lost", () => {
  it("is anything that was written, whatever is shown of it", () => {
    expect(isBlank(EMPTY)).toBe(true);
    expect(isBlank({ ...EMPTY, maxNewTokens: 5, answer: " " })).toBe(true);
    expect(isBlank(EXAMPLE)).toBe(false);
    expect(isBlank({ ...EMPTY, messages: [{ role: "user", content: "hidden by the mode" }] })).toBe(false);
    expect(isBlank({ ...EMPTY, documents: [{ title: "only a title", text: "" }] })).toBe(false);
  });
});

describe("the job that is followed", () => {
  beforeEach(() => sessionStorage.clear());

  it("is forgotten when it is over, and not when another one is followed by then", () => {
    expect(followed()).toBeNull();
    remember("one", "run");
    remember("two", "weigh");
    forget("one");
    expect(followed()).toEqual({ id: "two", kind: "weigh" });
    forget("two");
    expect(followed()).toBeNull();
  });

  it("is none where the storage holds nonsense", () => {
    for (const nonsense of ["{", "[]", "3", '{"id":"a","kind":"other"}', '{"id":1,"kind":"run"}']) {
      sessionStorage.setItem("attributor.job", nonsense);
      expect(followed()).toBeNull();
    }
  });
});
