// Pictures of float32 values (h, w) -> resized pictures, computed as Pillow does it for its mode F.
import { rint } from "./numbers.js";

/** @typedef {{values: Float32Array, height: number, width: number}} Picture */

export const picture = (values, height, width) => ({ values, height, width });

const BOX = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
const BICUBIC = { support: 2, weight: bicubic };

function bicubic(x) {
  const a = -0.5;
  const t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
}

/** The picture, downscaled by averaging to a longer side of at most `longer` pixels. */
export function shrink(grey, longer) {
  const scale = longer / Math.max(grey.height, grey.width);
  return scale >= 1 ? grey : resize(grey, Math.max(1, rint(grey.height * scale)), Math.max(1, rint(grey.width * scale)));
}

/** By averaging if a side shrinks, else by bicubic interpolation. */
export function resize(source, height, width) {
  const filter = height < source.height || width < source.width ? BOX : BICUBIC;
  const across = width === source.width ? source : resizeRows(source, width, filter);
  return height === across.height ? across : transposed(resizeRows(transposed(across), height, filter));
}

function resizeRows(source, width, filter) {
  const result = new Float32Array(source.height * width);
  taperedTaps(source.width, width, filter).forEach(({ start, weights }, column) => {
    for (let row = 0; row < source.height; row++) {
      let sum = 0;
      for (let i = 0, at = row * source.width + start; i < weights.length; i++, at++) sum += source.values[at] * weights[i];
      result[row * width + column] = sum;
    }
  });
  return picture(result, source.height, width);
}

/** For each output pixel the first input pixel and the weights, in sum 1, of the pixels from there on. */
function taperedTaps(from, to, filter) {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const support = filter.support * stretch;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const start = Math.max(Math.trunc(centre - support + 0.5), 0);
    const end = Math.min(Math.trunc(centre + support + 0.5), from);
    const raw = Array.from({ length: end - start }, (_, k) => filter.weight((k + start - centre + 0.5) / stretch));
    const sum = raw.reduce((a, b) => a + b, 0);
    return { start, weights: raw.map((weight) => (sum ? weight / sum : weight)) };
  });
}

export function transposed({ values, height, width }) {
  const result = new Float32Array(values.length);
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) result[column * height + row] = values[row * width + column];
  }
  return picture(result, width, height);
}

/** A part of the picture: rows top to bottom, columns left to right, ends excluded; outside the picture it is 0. */
export function crop({ values, height, width }, top, bottom, left, right) {
  const result = new Float32Array((bottom - top) * (right - left));
  for (let row = Math.max(top, 0); row < Math.min(bottom, height); row++) {
    for (let column = Math.max(left, 0); column < Math.min(right, width); column++) {
      result[(row - top) * (right - left) + column - left] = values[row * width + column];
    }
  }
  return picture(result, bottom - top, right - left);
}

export const padded = (source, n) => crop(source, -n, source.height + n, -n, source.width + n);
