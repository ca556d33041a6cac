import { beforeEach, describe, expect, it } from "vitest";

import { EMPTY, EXAMPLE, isBlank } from "../../src/live/draft";
import { readDocuments } from "../../src/live/files";
import { followed, forget, remember } from "../../src/live/memory";

describe("files that become documents", () => {
  const file = (name: string, ...parts: BlobPart[]): File => new File(parts, name);

  it("reads UTF-8 and UTF-16 with a byte order mark, with Unix line ends and the name as title", async () => {
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

  it("refuses files that are not text or too long, and says what would work", async () => {
    expect(await readDocuments([file("a.txt", "fine"), file("b.pdf", "%PDF", new Uint8Array([0, 1]))])).toMatch(/^b\.pdf is no plain text\./);
    expect(await readDocuments([file("b.bin", new Uint8Array([0xc3, 0x28]))])).toMatch(/^b\.bin is no plain text\./);
    expect(await readDocuments([file("big.txt", new Uint8Array(8_000_001))])).toMatch(/^big\.txt has 8 MB: a document may have 8 MB/);
  });
});

describe("text that would be lost", () => {
  it("is any written text, shown or not", () => {
    expect(isBlank(EMPTY)).toBe(true);
    expect(isBlank({ ...EMPTY, maxNewTokens: 5, answer: " " })).toBe(true);
    expect(isBlank(EXAMPLE)).toBe(false);
    expect(isBlank({ ...EMPTY, messages: [{ role: "user", content: "hidden by the mode" }] })).toBe(false);
    expect(isBlank({ ...EMPTY, documents: [{ title: "only a title", text: "" }] })).toBe(false);
  });
});

describe("the followed job", () => {
  beforeEach(() => sessionStorage.clear());

  it("is removed when it is over, unless another job is followed by then", () => {
    expect(followed()).toBeNull();
    remember("one", "run");
    remember("two", "weigh");
    forget("one");
    expect(followed()).toEqual({ id: "two", kind: "weigh" });
    forget("two");
    expect(followed()).toBeNull();
  });

  it("is null for invalid data in the storage", () => {
    for (const nonsense of ["{", "[]", "3", '{"id":"a","kind":"other"}', '{"id":1,"kind":"run"}']) {
      sessionStorage.setItem("attributor.job", nonsense);
      expect(followed()).toBeNull();
    }
  });
});
