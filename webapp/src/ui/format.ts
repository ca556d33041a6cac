/** Number formats of the page. */

import type { Interval } from "../run/compare";

/** 1,234. */
export function count(value: number): string {
  return value.toLocaleString("en");
}

/** Bytes in a suitable unit: "12.7 MB", "24 GB". */
export function bytes(value: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let step = 0;
  // Otherwise 999.6 kB would print as 1000 kB.
  while (value >= (step === 0 ? 1000 : 999.5) && step < units.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${value.toLocaleString("en", { maximumFractionDigits: step === 0 || value >= 100 ? 0 : 1 })} ${units[step]}`;
}

/** A large number with a word: 44,832 -> "45 thousand", 134,515,008 -> "135 million". */
export function large(value: number): string {
  const names = ["", " thousand", " million", " billion", " trillion"];
  let step = 0;
  while (value >= 999.5 && step < names.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${value.toLocaleString("en", { maximumFractionDigits: step > 0 && value < 9.95 ? 1 : 0 })}${names[step]}`;
}

/** Seconds since 1970 as the time of day, with the date if it is not today: "14:05", "3 May, 14:05". */
export function clock(seconds: number, now = new Date()): string {
  const at = new Date(seconds * 1000);
  const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (at.toDateString() === now.toDateString()) return time;
  return `${at.toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${time}`;
}

/** A number with `places` digits after the point, with a real minus sign but never "−0"; a dash for null. */
export function digits(value: number | null, places: number): string {
  if (value === null || Number.isNaN(value)) return "–";
  const text = value.toFixed(places);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

/** A number with a sign, for differences. */
export function signed(value: number | null, places: number): string {
  const text = digits(value, places);
  return value !== null && Number(value.toFixed(places)) > 0 ? `+${text}` : text;
}

/** "0.150 to 0.203", or "" without an interval. */
export function range({ low, high }: Interval, places: number, sign = false): string {
  if (low === null || high === null) return "";
  const show = sign ? signed : digits;
  return `${show(low, places)} to ${show(high, places)}`;
}

/** An expected rank, which is a whole number without ties. */
export function rankText(value: number): string {
  if (Number.isNaN(value)) return "–";
  return Math.abs(value - Math.round(value)) < 1e-6 ? count(Math.round(value)) : value.toFixed(1);
}

/** "1 case", "2 cases". */
export function plural(value: number, one: string, many = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}
