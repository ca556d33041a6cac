import { render } from "preact";
import { act } from "preact/test-utils";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { UserError } from "../../src/model/types";
import { Boundary } from "../../src/ui/Boundary";
import { bytes, clock, count, digits, large, plural, range, rankText, signed } from "../../src/ui/format";
import { Header } from "../../src/ui/Header";
import { dismiss, Messages, messages, report } from "../../src/ui/messages";

let root: HTMLElement;
beforeEach(() => {
  root = document.createElement("div");
  document.body.replaceChildren(root);
  messages.value = [];
  localStorage.clear();
});
afterEach(() => act(() => render(null, root)));

describe("numbers", () => {
  it("are formatted for readers", () => {
    expect([bytes(0), bytes(999), bytes(12_710_000), bytes(4.2e12)]).toEqual(["0 bytes", "999 bytes", "12.7 MB", "4.2 TB"]);
    expect([bytes(999_400), bytes(999_600), bytes(999_960_000)]).toEqual(["999 kB", "1 MB", "1 GB"]);
    expect([digits(-0.0001, 3), digits(-0.5, 1), digits(null, 2), digits(NaN, 2)]).toEqual(["0.000", "−0.5", "–", "–"]);
    expect([signed(0.25, 2), signed(-0.25, 2), signed(0.0004, 3), signed(null, 1)]).toEqual(["+0.25", "−0.25", "0.000", "–"]);
    expect([rankText(3), rankText(2.9999999999), rankText(2.5), rankText(NaN)]).toEqual(["3", "3", "2.5", "–"]);
    expect(range({ value: 0, low: -0.1, high: 0.2, n: 2 }, 1, true)).toBe("−0.1 to +0.2");
    expect(range({ value: 0, low: null, high: null, n: 1 }, 1)).toBe("");
    expect([bytes(1_536_000), bytes(10_000_000), bytes(99_960_000), bytes(24_000_000_000)]).toEqual(["1.5 MB", "10 MB", "100 MB", "24 GB"]);
    expect([count(12345), plural(1, "token"), plural(2000, "token"), plural(2, "case is", "cases are")]).toEqual(["12,345", "1 token", "2,000 tokens", "2 cases are"]);
  });

  it("writes large numbers with words", () => {
    expect([0, 999, 1000, 44_832, 999_499, 999_500, 134_515_008, 7_615_616_512].map(large)).toEqual([
      "0", "999", "1 thousand", "45 thousand", "999 thousand", "1 million", "135 million", "7.6 billion",
    ]);
  });

  it("shows the time of today, and the date of another day", () => {
    const at = (day: number): number => new Date(2026, 4, day, 14, 5).getTime() / 1000;
    expect(clock(at(3), new Date(2026, 4, 3, 23))).toBe("14:05");
    expect(clock(at(3), new Date(2026, 4, 4, 1))).toBe("3 May, 14:05");
  });
});

describe("messages", () => {
  it("shows a UserError's message, and technical details collapsed", async () => {
    await act(() => render(<Messages />, root));
    await act(() => {
      report(new UserError("Open it again."));
      report(new Error("x is undefined <b>"));
    });
    const area = root.querySelector("[role=alert]")!;
    expect([...area.querySelectorAll("p")].map((one) => one.textContent)).toEqual([
      "Open it again.",
      "Something went wrong that was not foreseen. Reloading the page may help.",
    ]);
    expect(area.querySelector("pre")!.textContent).toContain("x is undefined <b>");
    expect(area.querySelectorAll("b")).toHaveLength(0);
    await act(() => dismiss(messages.value[0]!.id));
    expect(area.querySelectorAll(".ui-message")).toHaveLength(1);
  });

  it("does not repeat a message, keeps only the newest, and ignores aborts", () => {
    report(new DOMException("stopped", "AbortError"));
    expect(messages.value).toHaveLength(0);
    for (const text of ["a", "a", "b", "c", "d", "e"]) report(new UserError(text));
    expect(messages.value.map((one) => one.text)).toEqual(["b", "c", "d", "e"]);
  });
});

describe("Boundary", () => {
  it("shows the error in place of the part, and renders again after a change", async () => {
    const Fails = ({ when }: { when: boolean }) => {
      if (when) throw new UserError("This cannot be shown.");
      return <p>shown</p>;
    };
    await act(() => render(<Boundary of="a"><Fails when /></Boundary>, root));
    expect(root.querySelector("[role=alert]")!.textContent).toContain("This cannot be shown.");
    await act(() => render(<Boundary of="b"><Fails when={false} /></Boundary>, root));
    expect(root.textContent).toBe("shown");
  });
});

describe("the theme", () => {
  it("is chosen in the header and stored", async () => {
    await act(() => render(<Header version="1" />, root));
    const button = (label: string) => [...root.querySelectorAll("button")].find((one) => one.textContent === label)!;
    await act(() => button("Dark").click());
    expect(document.documentElement.dataset["theme"]).toBe("dark");
    expect(localStorage.getItem("attributor-theme")).toBe("dark");
    expect(button("Dark").getAttribute("aria-pressed")).toBe("true");
    await act(() => button("Auto").click());
    expect("theme" in document.documentElement.dataset).toBe(false);
  });
});
