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

/** "1 token", "2 tokens". */
export function plural(count: number, what: string): string {
  return `${number(count)} ${what}${count === 1 ? "" : "s"}`;
}
