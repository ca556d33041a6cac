/** The shown bars as an SVG, and an SVG as a PNG. */

import { showShare } from "../model/scale";
import { escaped } from "../model/text";
import { UserError } from "../model/types";
import type { Line, Shown } from "./table";

const WIDTH = 900;
const LINE = 34;
const MOST = 20; // bars; one more bar has the sum of the others
const FOOT = 130; // characters per line below the bars

/** A picture of the answer and its sources for slides and papers, with fixed colours on white. */
export function barsSvg(shown: Shown): string {
  const pieces = shown.lines.filter((line) => line.rank !== null);
  const more = pieces.slice(MOST);
  const lines: Line[] = [...pieces.slice(0, MOST)];
  if (more.length > 0) {
    const share = more.reduce((sum, line) => sum + line.share, 0);
    lines.push({ rank: null, what: shown.by, share, document: "", text: `${more.length} more`, gold: null });
  }
  lines.push(...shown.lines.filter((line) => line.rank === null));
  const widest = lines.reduce((most, line) => Math.max(most, line.share), 0);
  const head = 74;
  const foot = shown.originLine ? broken(shown.originLine, FOOT) : [];
  const height = head + lines.length * LINE + 16 + (foot.length ? foot.length * 16 + 8 : 0);
  const bars = lines.map((line, i) => {
    const y = head + i * LINE;
    const width = widest > 0 ? Math.max(1, (line.share / widest) * (WIDTH - 150)) : 0;
    const name = line.rank === null ? [line.what === shown.by ? "" : line.what, line.text].filter(Boolean).join(": ") : line.text;
    const gold = line.gold ? "★ " : "";
    const [ink, bar] = line.rank === null ? ["#6a645d", "#b9b2a9"] : ["#1d1b19", "#d86a26"];
    return (
      `<text x="24" y="${y + 12}" font-size="13" fill="${ink}">${escaped(gold + cut(name, 112))}</text>` +
      `<rect x="24" y="${y + 18}" width="${width.toFixed(1)}" height="6" rx="3" fill="${bar}"/>` +
      `<text x="${WIDTH - 24}" y="${y + 12}" font-size="13" text-anchor="end" fill="#1d1b19">${showShare(line.share)}</text>`
    );
  });
  const below = foot.map((text, i) => `<text x="24" y="${head + lines.length * LINE + 20 + 16 * i}" font-size="12" fill="#6a645d">${escaped(text)}</text>`);
  const made = [shown.question, shown.meta.model, shown.method].filter(Boolean).join(" · ");
  return (
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" ` +
    `font-family="Georgia, 'DejaVu Serif', serif" role="img"><title>${escaped(shown.title)}</title>` +
    `<rect width="100%" height="100%" fill="#ffffff"/>` +
    `<text x="24" y="30" font-size="17" fill="#1d1b19">${escaped(cut(shown.asked.trim() || shown.title, 96))}</text>` +
    `<text x="24" y="52" font-size="12" fill="#6a645d">${escaped(cut(made, 130))}</text>` +
    `${bars.join("")}${below.join("")}</svg>`
  );
}

/** Breaks a text between words into lines of at most `most` characters. */
function broken(text: string, most: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1) ?? ""} ${word}`;
    if (lines.length && longer.length <= most) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

function cut(text: string, most: number): string {
  const flat = [...text.replace(/\s+/g, " ").trim()];
  return flat.length > most ? `${flat.slice(0, most - 1).join("")}…` : flat.join("");
}

/** Draws an SVG at twice its size. */
export async function toPng(svg: string): Promise<Blob> {
  const url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth * 2;
    canvas.height = image.naturalHeight * 2;
    const context = canvas.getContext("2d");
    if (context === null) throw new UserError("This browser gives no canvas to draw the picture on; save the SVG instead.");
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve, reject) =>
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new UserError("The picture could not be drawn; save the SVG instead."))), "image/png"),
    );
  } finally {
    URL.revokeObjectURL(url);
  }
}
