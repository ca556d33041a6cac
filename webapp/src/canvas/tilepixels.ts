/** Converts the numbers of a tile to pixels, and finds its strongest cells. */
import type { Theme } from "./theme";
import type { Tile, TilePlace } from "./tilestore";

export type TileMode = "max" | "mean";

const scaleOf = (tile: Tile, mode: TileMode): number => tile.scale[mode === "max" ? 0 : 1];

/** A bitmap with one pixel for each cell. `largest` has the strongest colour. Null if the browser has no 2D canvas. */
export function drawTile(tile: Tile, mode: TileMode, largest: number, theme: Theme, size: number, reuse?: HTMLCanvasElement): HTMLCanvasElement | null {
  const canvas = reuse ?? document.createElement("canvas");
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  if (!context) return null;
  const image = context.createImageData(size, size), pixels = new Uint32Array(image.data.buffer);
  // Both steps and colours are square roots, so one factor converts between them.
  const steps = tile[mode], factor = Math.sqrt(scaleOf(tile, mode) / largest);
  for (let i = 0; i < pixels.length; i++) pixels[i] = theme.ramp32[Math.min(255, Math.round(steps[i] * factor))];
  context.putImageData(image, 0, 0);
  return canvas;
}

/** The cells with the largest values of some tiles, largest first, each by its first tokens. */
export function strongest(tiles: readonly { place: TilePlace; tile: Tile }[], mode: TileMode, size: number, count: number): { value: number; query: number; key: number }[] {
  const found: { value: number; query: number; key: number }[] = [];
  const cut = (): void => void found.sort((a, b) => b.value - a.value).splice(count);
  let floor = 0;
  for (const { place, tile } of tiles) {
    const steps = tile[mode], scale = scaleOf(tile, mode), span = 2 ** place.level;
    for (let i = 0; i < steps.length; i++) {
      const value = scale * (steps[i] / 255) ** 2;
      if (value <= floor) continue;
      found.push({ value, query: (place.row * size + Math.floor(i / size)) * span, key: (place.col * size + (i % size)) * span });
      if (found.length < 4 * count) continue;
      cut();
      floor = found[count - 1].value;
    }
  }
  cut();
  return found;
}
