import { describe, expect, test } from "vitest";
import { assignTokens, splitSentences, wholeCharacters } from "../../src/model/segments";

const flat = (...spans: [number, number][]): Int32Array => Int32Array.from(spans.flat());
const split = (text: string, ...documents: [number, number][]): string[] => {
  const found = splitSentences(text, flat(...documents));
  return Array.from({ length: found.length / 2 }, (_, i) => text.slice(found[2 * i], found[2 * i + 1]));
};

/** Random integers below `most`, the same every time. */
function dice(seed: number): (most: number) => number {
  let state = seed + 1;
  return (most) => Math.floor((most * (state = (state * 16807) % 2147483647)) / 2147483647);
}

describe("tokens and segments", () => {
  test("are assigned by the largest overlap, for any order of the segments", () => {
    for (let seed = 0; seed < 500; seed++) {
      const roll = dice(seed);
      const cuts = [...new Set(Array.from({ length: roll(13) }, () => roll(61)))].sort((a, b) => a - b);
      const step = roll(2) + 1; // with gaps, or touching
      let segments: [number, number][] = [];
      for (let i = 0; i + 1 < cuts.length; i += step) segments.push([cuts[i]!, cuts[i + 1]!]);
      segments = segments.map((s) => [roll(1000), s] as const).sort((a, b) => a[0] - b[0]).map(([, s]) => s);
      const offsets = Array.from({ length: roll(20) }, (): [number, number] => { const a = roll(61); return [a, a + roll(16)]; }); // prettier-ignore
      const expected = offsets.map(([start, end]) => {
        const stop = Math.max(end, start + 1);
        const overlap = segments.map(([a, b]) => Math.min(stop, b) - Math.max(start, a));
        const order = [...segments.keys()].sort((i, j) => overlap[j]! - overlap[i]! || segments[i]![0] - segments[j]![0]);
        return order.length && overlap[order[0]!]! > 0 ? order[0] : -1;
      });
      expect([...assignTokens(flat(...offsets), flat(...segments))]).toEqual(expected);
    }
  });

  test("no segments, no tokens", () => {
    expect([...assignTokens(flat([0, 3]), flat())]).toEqual([-1]);
    expect(assignTokens(flat(), flat([0, 3])).length).toBe(0);
  });

  test("tokens that share a character are one unit; tokens without characters join the previous unit", () => {
    expect([...wholeCharacters(flat([0, 1], [1, 2], [1, 2], [1, 2], [2, 5]))]).toEqual([0, 1, 4]);
    expect([...wholeCharacters(flat([0, 0], [0, 2], [2, 2], [2, 3]))]).toEqual([0, 1, 3]);
    expect([...wholeCharacters(flat([0, 4], [1, 2], [3, 5], [5, 6]))]).toEqual([0, 3]);
    expect([...wholeCharacters(flat())]).toEqual([]);
  });

  test("100,000 tokens among 4,000 sentences are assigned fast", () => {
    const offsets = new Int32Array(200_000).map((_, i) => 5 * ((i + 1) >> 1));
    const segments = new Int32Array(8_000).map((_, i) => 125 * ((i + 1) >> 1));
    const started = performance.now();
    const found = assignTokens(offsets, segments);
    expect(performance.now() - started).toBeLessThan(500);
    expect(found[99_999]).toBe(3999);
    expect(wholeCharacters(offsets).length).toBe(100_000);
  });
});

describe("sentences", () => {
  test("end at the borders that a reader expects", () => {
    expect(split('Dr. Hart left in 1931. "Was it dark?" she asked. It cost $3.50... No!')).toEqual([
      "Dr. Hart left in 1931.",
      '"Was it dark?" she asked.',
      "It cost $3.50...",
      "No!",
    ]);
    expect(split("See J. Smith et al. (2019), e.g. Fig. 3. Done.")).toEqual(["See J. Smith et al. (2019), e.g. Fig. 3.", "Done."]);
    expect(split("東京です。次の文。")).toEqual(["東京です。", "次の文。"]);
  });

  test("stay inside documents and paragraphs", () => {
    const text = "Question one\n\n  First document without a stop\n \nand a part. Second document. Then more.  \nThe end";
    const [first, second, last] = [text.indexOf("First"), text.indexOf("Second"), text.indexOf("The end")];
    expect(split(text, [second, last], [first, second])).toEqual(["First document without a stop", "and a part.", "Second document.", "Then more."]);
    expect(split(text)[0]).toBe("Question one");
    expect(split("a. B\r\n\r\nc d")).toEqual(["a.", "B", "c d"]);
  });

  test("continue over a wrapped line", () => {
    const wrapped = "This sentence is long enough to have been wrapped by\nan editor at some column.";
    const found = split(`${wrapped} A list:\n- one\n- two\nTitle\nText.`);
    expect(found[0]).toBe(wrapped);
    expect(found.slice(-2)).toEqual(["Title", "Text."]);
  });

  test("cover unusual texts completely", () => {
    const letters = [..."abAB .!?\n\"'()1&…\u3000\u200b\0\r\t\x85\u2028“”。é\u0301-*•😀"];
    for (let seed = 0; seed < 400; seed++) {
      const roll = dice(seed);
      const text = Array.from({ length: roll(80) }, () => letters[roll(letters.length)]).join("");
      const found = splitSentences(text, flat());
      let reached = 0;
      for (let i = 0; i < found.length; i += 2) {
        const [start, stop] = [found[i]!, found[i + 1]!];
        const sentence = text.slice(start, stop);
        expect(sentence).toBe(sentence.trim());
        expect(sentence).not.toBe("");
        expect(sentence).not.toContain("\n\n");
        expect(text.slice(reached, start).trim()).toBe("");
        reached = stop;
      }
      expect(text.slice(reached).trim()).toBe("");
    }
  });

  test("are found in a very long paragraph, and in 500 kB of text in reasonable time", () => {
    const text = `${"word ".repeat(30_000)}end.`;
    const found = split(text);
    expect(found.length).toBeGreaterThan(1);
    expect(found.length).toBeLessThan(10);
    expect(found.join("").replaceAll(" ", "")).toBe(text.replaceAll(" ", ""));
    const long = "The ferry crosses twice a day, and stays in when the wind is strong. ".repeat(7_500);
    const started = performance.now();
    expect(split(long).length).toBe(7_500);
    expect(performance.now() - started).toBeLessThan(3000);
    const pairs = "😀".repeat(60_000);
    expect(split(pairs).join("")).toBe(pairs);
    expect(split(pairs).every((piece) => !/\p{Cs}/u.test(piece))).toBe(true);
  });
});
