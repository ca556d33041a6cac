import { describe, expect, test } from "vitest";
import { countCodePoints, decodeUtf8, shown, toCodePoints, visible } from "../../src/model/text";

describe("visible", () => {
  test.each([
    ["plain text\n\twith tabs", "plain text\n\twith tabs"],
    ["a\r\nb\rc\n\r", "a\nb\nc\n\n"],
    ["x\u202ey", "x⟦U+202E⟧y"],
    ["\0\x1b[31m\x7f\x85", "⟦U+0000⟧⟦U+001B⟧[31m⟦U+007F⟧⟦U+0085⟧"],
    ["\ufeff\u200b\u2028\u2066\u061c\ufffa", "⟦U+FEFF⟧⟦U+200B⟧⟦U+2028⟧⟦U+2066⟧⟦U+061C⟧⟦U+FFFA⟧"],
    ["tag \u{e0041}\u{e007f}", "tag ⟦U+E0041⟧⟦U+E007F⟧"],
    ["👩‍👩‍👧 नमस्ते ZWJ\u200d ZWNJ\u200c", "👩‍👩‍👧 नमस्ते ZWJ\u200d ZWNJ\u200c"],
    ["東京 😀\u202c", "東京 😀⟦U+202C⟧"],
  ])("%j", (raw, expected) => {
    expect(visible(raw)).toBe(expected);
    expect(shown(raw).text).toBe(expected);
  });

  test("spells out the same characters as attributor/_result/view/escape.py", () => {
    const spans = [[0, 8], [0xb, 0xc], [0xe, 0x1f], [0x7f, 0x9f], [0x61c, 0x61c], [0x200b, 0x200b], [0x200e, 0x200f], [0x2028, 0x202e],
      [0x2060, 0x206f], [0xfeff, 0xfeff], [0xfff9, 0xfffb], [0xe0000, 0xe007f]]; // prettier-ignore
    for (let code = 0; code < 0x110000; code++) {
      if ((code >= 0xd800 && code < 0xe000) || code === 13) continue;
      const character = String.fromCodePoint(code);
      const hidden = spans.some(([a, b]) => a! <= code && code <= b!);
      if ((visible(character) !== character) !== hidden) expect.fail(`U+${code.toString(16)}`);
    }
  });
});

describe("places", () => {
  /** The definition of `place`: the length of the visible text before a code point. */
  function slowly(raw: string): number[] {
    const characters = [...raw];
    const places = [0];
    for (let i = 0; i < characters.length; i++) {
      const c = characters[i]!;
      places.push(places[i]! + (c === "\r" && characters[i + 1] === "\n" ? 0 : visible(c).length));
    }
    return places;
  }

  test.each(["", "plain", "a\r\nb\r\rc\n", "😀x\u202e東\0\r", "\r\n", "\u{e0001}é\u0301👩‍👩‍👧"])("of %j", (raw) => {
    const result = shown(raw);
    const count = [...raw].length;
    expect(result.points).toBe(count);
    expect([...result.place(Int32Array.from({ length: count + 1 }, (_, i) => i))]).toEqual(slowly(raw));
    expect(result.place(Int32Array.of(count))[0]).toBe(result.text.length);
  });

  test("cutting and making visible commute", () => {
    const raw = "ab\u202ecd😀\r\nx";
    const { text, place } = shown(raw);
    const at = place(Int32Array.of(2, 3, 5, 6, 8, 9));
    expect(text.slice(at[0], at[1])).toBe("⟦U+202E⟧");
    expect(text.slice(at[2], at[3])).toBe("😀");
    expect(text.slice(at[3], at[4])).toBe("\n");
    expect(text.slice(at[4], at[5])).toBe("x");
  });

  test("UTF-16 indices are converted back", () => {
    expect([...toCodePoints("a😀b😀", Int32Array.of(0, 1, 3, 4, 6))]).toEqual([0, 1, 2, 3, 4]);
    expect([...toCodePoints("abc", Int32Array.of(0, 3))]).toEqual([0, 3]);
    expect(countCodePoints("a😀b")).toBe(3);
    expect(countCodePoints("abc")).toBe(3);
  });

  test("of 500 kB of text are computed fast", () => {
    const plain = "The ferry crosses twice a day.\n".repeat(16_000);
    const odd = "Die Fähre 😀 fährt\r\n zweimal\u202e.".repeat(16_000);
    let started = performance.now();
    expect(shown(plain).text).toBe(plain);
    expect(performance.now() - started).toBeLessThan(50);
    started = performance.now();
    expect(shown(odd).points).toBe(16_000 * [..."Die Fähre 😀 fährt\r\n zweimal\u202e."].length);
    expect(performance.now() - started).toBeLessThan(1500);
  });
});

test("UTF-8 is strict and keeps byte order marks", () => {
  expect(decodeUtf8(new Uint8Array([0xef, 0xbb, 0xbf, 0x61]), "text")).toBe("\ufeffa");
  expect(() => decodeUtf8(new Uint8Array([0xff]), "text")).toThrow("text is not utf-8");
  expect(() => decodeUtf8(new Uint8Array([0xed, 0xa0, 0x80]), "text")).toThrow("text is not utf-8");
});
