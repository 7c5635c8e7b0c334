// uint8 28x28 as a net sees it, and the sliders' settings -> the image turned, shifted, scribbled over, inverted.
import { clamp, random, rint } from "./numbers.js";

/** What each slider starts at: degrees, pixels, pixels, strokes, percent. */
export const UNCHANGED = { turn: 0, right: 0, down: 0, scribble: 0, invert: 0 };

export const isChanged = (settings) => Object.keys(UNCHANGED).some((key) => settings[key] !== UNCHANGED[key]);

/** The image after the changes; they come after centring, which would undo some of them. */
export function change(image, side, settings) {
  if (!isChanged(settings)) return image;
  const values = moved(image, side, settings);
  if (settings.scribble) scribble(values, side, settings.scribble);
  const share = settings.invert / 100;
  return Uint8Array.from(values, (x) => clamp(rint(x + share * (255 - 2 * x)), 0, 255));
}

/** The image turned clockwise around its middle, then shifted; between pixels interpolated, outside 0. */
function moved(image, side, { turn, right, down }) {
  const middle = (side - 1) / 2;
  const [cos, sin] = [Math.cos((turn * Math.PI) / 180), Math.sin((turn * Math.PI) / 180)];
  const pixel = (y, x) => (y >= 0 && x >= 0 && y < side && x < side ? image[y * side + x] : 0);
  return Float64Array.from(image, (_, i) => {
    const [dy, dx] = [Math.floor(i / side) - middle - down, (i % side) - middle - right];
    const [y, x] = [middle + cos * dy - sin * dx, middle + sin * dy + cos * dx];
    const [top, left] = [Math.floor(y), Math.floor(x)];
    const [v, u] = [y - top, x - left];
    const above = (1 - u) * pixel(top, left) + u * pixel(top, left + 1);
    return (1 - v) * above + v * ((1 - u) * pixel(top + 1, left) + u * pixel(top + 1, left + 1));
  });
}

/** Draw straight strokes of full ink, 1.6 pixels wide; the first n are the same whenever n are asked for. */
function scribble(values, side, strokes) {
  const next = random(7);
  for (let stroke = 0; stroke < strokes; stroke++) {
    const [x0, y0, x1, y1] = Array.from({ length: 4 }, () => 2 + next() * (side - 5));
    for (let i = 0; i < values.length; i++) {
      const distance = toSegment(i % side, Math.floor(i / side), x0, y0, x1, y1);
      values[i] = Math.max(values[i], 255 * clamp(1.3 - distance, 0, 1));
    }
  }
}

/** The distance of a point to a line from (x0, y0) to (x1, y1). */
export function toSegment(x, y, x0, y0, x1, y1) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = dx * dx + dy * dy;
  const t = length ? clamp(((x - x0) * dx + (y - y0) * dy) / length, 0, 1) : 0;
  return Math.hypot(x - x0 - t * dx, y - y0 - t * dy);
}
