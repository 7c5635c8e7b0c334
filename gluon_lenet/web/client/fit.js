// A grey picture (h, w), 0 to 255 -> uint8 28x28 in the form of a data set, as inference/pictures/fit.py does it.
import { clamp, median, rint } from "./numbers.js";
import { BLANK, EDGE, PictureError, inkOf, sidesOf, withoutSpecks } from "./ink.js";
import { extreme } from "./morphology.js";
import { crop, padded, picture, resize } from "./resample.js";

export const FIELD = 28; // pixels, MNIST's image
const BOX_SIDE = 20; // pixels, the longer side of the drawing in it
const CENTRE = 14; // the pixel, counted from 0, that holds the centre of mass
const [THIN, NORMAL] = [1.6, 2.4]; // pixels, in the box of 20: below the first, strokes are thickened to the second
const NEAR = 0.05 * 255; // pixels this close to the background's grey are background
const BRIGHT = 250; // of 255; fainter clothing is stretched

/** How pictures are brought into a data set's form, by the form's name. */
export const FORMS = { digit: layInk, drawing: asItIs, clothing: fitClothing };

function layInk(grey) {
  return lay(inkOf(grey));
}

/** A picture of 28x28 on black, as the page saves its drawings, is taken as it is; any other one as a digit. */
function asItIs(grey) {
  const rim = Float32Array.from(sidesOf(grey).flatMap((side) => Array.from(side)));
  if (grey.height !== FIELD || grey.width !== FIELD || median(rim) !== 0) return layInk(grey);
  if (!grey.values.some(Boolean)) throw new PictureError(BLANK);
  return Uint8Array.from(grey.values, rint);
}

/** Ink -> its longer side 20 pixels, its centre of mass on pixel (14, 14). */
function lay(ink) {
  let box = boundsOf(ink);
  if (Math.abs(box.longer - BOX_SIDE) > 1) {
    const thick = thicken(ink, box.longer);
    box = boundsOf(thick);
    const margin = Math.ceil(box.longer / BOX_SIDE); // for the antialiased rim
    const part = crop(thick, box.top - margin, box.bottom + margin, box.left - margin, box.right + margin);
    const side = (n) => Math.max(1, rint((n * BOX_SIDE) / box.longer));
    ink = resize(part, side(part.height), side(part.width));
  }
  return centred(picture(ink.values.map((x) => clamp(rint(x), 0, 255)), ink.height, ink.width));
}

function centred(pixels) {
  let [total, y, x] = [0, 0, 0];
  pixels.values.forEach((value, i) => {
    total += value;
    y += value * Math.floor(i / pixels.width);
    x += value * (i % pixels.width);
  });
  if (!total) throw new PictureError(BLANK);
  const [top, left] = [y, x].map((sum) => Math.floor(sum / total + 0.5) - CENTRE);
  return Uint8Array.from(crop(pixels, top, top + FIELD, left, left + FIELD).values);
}

/** The drawing's box in pixels; bottom and right are excluded. */
function boundsOf({ values, height, width }, edge = Math.fround(EDGE * 255)) {
  let [top, bottom, left, right] = [height, 0, width, 0];
  for (let i = 0; i < values.length; i++) {
    if (!(values[i] > edge)) continue;
    const row = Math.floor(i / width);
    const column = i - row * width;
    top = Math.min(top, row);
    bottom = row + 1;
    left = Math.min(left, column);
    right = Math.max(right, column + 1);
  }
  if (bottom <= top) throw new PictureError(BLANK);
  return { top, bottom, left, right, longer: Math.max(bottom - top, right - left) };
}

/** The ink, with strokes that are thin for MNIST thickened: a fine pen would fade at 20 pixels. */
function thicken(ink, longer) {
  const { values, height, width } = ink;
  let [contour, total] = [0, 0]; // a stroke of width w has a contour of length 2 per area w
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const here = values[row * width + column];
      total += here;
      if (!row || !column) continue;
      const down = here - values[(row - 1) * width + column];
      const across = here - values[row * width + column - 1];
      contour += Math.sqrt(down * down + across * across);
    }
  }
  const thickness = (((2 * total) / Math.max(contour, 1)) * BOX_SIDE) / longer;
  if (thickness >= THIN) return ink;
  const grow = rint(((NORMAL - thickness) * longer) / BOX_SIDE / 2);
  return extreme(padded(ink, grow), 2 * grow + 1, true);
}

/** One thing on a plain background -> cropped, its longer side 28 pixels, centred, light on black. */
function fitClothing(grey) {
  const rim = sidesOf(grey).flatMap((side) => Array.from(side));
  let background = median(rim);
  if (Math.min(background, 255 - background) < NEAR) background = rint(background / 255) * 255;
  let ink = picture(grey.values.map((x) => Math.max(background > 127.5 ? background - x : x - background, 0)), grey.height, grey.width);
  if (grey.height !== FIELD || grey.width !== FIELD) ink = placed(ink);
  const most = ink.values.reduce((a, b) => Math.max(a, b), 0);
  if (most <= NEAR) throw new PictureError(BLANK);
  const scale = most < BRIGHT ? Math.fround(255 / most) : 1;
  return Uint8Array.from(ink.values, (x) => clamp(rint(Math.fround(x * scale)), 0, 255));
}

function placed(ink) {
  const clean = withoutSpecks(picture(ink.values.map((x) => (x > NEAR ? x : 0)), ink.height, ink.width));
  const box = boundsOf(clean, 0);
  const part = crop(clean, box.top, box.bottom, box.left, box.right);
  const side = (n) => Math.max(1, rint(n * (FIELD / box.longer)));
  const small = resize(part, side(part.height), side(part.width));
  const first = (n) => Math.floor((FIELD - n + 1) / 2); // an odd pixel goes first, as in the data set
  const [top, left] = [first(small.height), first(small.width)];
  const field = crop(small, -top, FIELD - top, -left, FIELD - left);
  return picture(field.values.map((x) => Math.max(x, 0)), FIELD, FIELD);
}
