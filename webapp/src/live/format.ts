/** Numbers as people read them. */

/** 12345.6 -> "12,346". */
export function number(value: number, digits = 0): string {
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** Bytes in the unit that fits: 1536000 -> "1.5 MB". */
export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let rest = value;
  while (rest >= 1000 && unit < units.length - 1) {
    rest /= 1000;
    unit++;
  }
  return `${number(rest, unit > 0 && rest < 10 ? 1 : 0)} ${units[unit]}`;
}

/** A large number in words: 44,832 -> "45 thousand", 134,515,008 -> "135 million". */
export function large(value: number): string {
  const names = ["", " thousand", " million", " billion", " trillion"];
  let unit = 0;
  let rest = value;
  while (rest >= 999.5 && unit < names.length - 1) {
    rest /= 1000;
    unit++;
  }
  return `${number(rest, unit > 0 && rest < 9.95 ? 1 : 0)}${names[unit]}`;
}

/** "1 token", "2 tokens". */
export function plural(count: number, what: string): string {
  return `${number(count)} ${what}${count === 1 ? "" : "s"}`;
}

/** Seconds since 1970 as the time of day, with the date where that was another day: "14:05", "3 May, 14:05". */
export function clock(seconds: number, now = new Date()): string {
  const at = new Date(seconds * 1000);
  const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (at.toDateString() === now.toDateString()) return time;
  return `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${time}`;
}
