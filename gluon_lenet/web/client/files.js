// A file of the reader's -> its picture, grey, upright, at most 400 pixels a side; or a PictureError that says why not.
import { PictureError, WORKING } from "./ink.js";
import { picture, shrink } from "./resample.js";
import { rint } from "./numbers.js";

const MOST_PIXELS = 50_000_000; // as `predict`; a larger picture could exhaust a phone's memory
const MOST_BYTES = 200_000_000;
const HEADER_BYTES = 1 << 24; // a phone may keep a depth map of some megabytes before the size in a JPEG

const tag = (bytes, at, text) => [...text].every((letter, i) => bytes[at + i] === letter.charCodeAt(0));
const big = (bytes, at, n) => bytes.slice(at, at + n).reduce((sum, byte) => 256 * sum + byte, 0);
const little = (bytes, at, n) => big(bytes.slice(at, at + n).reverse(), 0, n);

/** Where each format keeps its size: signature -> [width, height], or null if the header is cut. */
const HEADERS = [
  [(b) => tag(b, 1, "PNG"), (b) => [big(b, 16, 4), big(b, 20, 4)]],
  [(b) => tag(b, 0, "GIF8"), (b) => [little(b, 6, 2), little(b, 8, 2)]],
  [(b) => tag(b, 0, "BM"), (b) => [little(b, 18, 4), little(b, 22, 4) & 0x7fffffff]],
  [(b) => tag(b, 0, "RIFF") && tag(b, 8, "WEBP"), webpSize],
  [(b) => b[0] === 0xff && b[1] === 0xd8, jpegSize],
];

function webpSize(b) {
  if (tag(b, 12, "VP8X")) return [1 + little(b, 24, 3), 1 + little(b, 27, 3)];
  if (tag(b, 12, "VP8L")) return [1 + (little(b, 21, 4) & 0x3fff), 1 + ((little(b, 21, 4) >>> 14) & 0x3fff)];
  return [little(b, 26, 2) & 0x3fff, little(b, 28, 2) & 0x3fff];
}

function jpegSize(b) {
  for (let at = 2; at + 9 < b.length; at += 2 + big(b, at + 2, 2)) {
    if (b[at] !== 0xff) return null;
    while (b[at + 1] === 0xff) at++; // a marker may follow fill bytes
    const marker = b[at + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return [big(b, at + 7, 2), big(b, at + 5, 2)];
  }
  return null;
}

/** The size that a picture's header declares, before anything is decoded; null for an unknown format. */
export function declaredSize(bytes) {
  const known = HEADERS.find(([fits]) => fits(bytes));
  return known ? known[1](bytes) : null;
}

/** @param {File} file @returns {Promise<Picture>} */
export async function readPicture(file) {
  if (!file.size) throw new PictureError("noPicture");
  if (file.size > MOST_BYTES) throw new PictureError("tooLarge");
  const head = new Uint8Array(await file.slice(0, HEADER_BYTES).arrayBuffer());
  const declared = declaredSize(head);
  if (!declared) throw new PictureError("noPicture");
  if (declared[0] * declared[1] > MOST_PIXELS) throw new PictureError("tooLarge");
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new PictureError("noPicture");
  }
  return greyOf(bitmap);
}

/** A decoded picture -> grey. Transparent ink on nothing is drawn on white, or, if it is light, on black. */
function greyOf(bitmap) {
  const scale = Math.min(1, (2 * WORKING) / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale)));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return shrink(picture(greyValues(data), height, width), WORKING);
}

/** RGBA bytes -> grey as Pillow weighs the colours, on a background that the visible part stands out from. */
export function greyValues(data) {
  const grey = new Float32Array(data.length / 4);
  let [light, seen, clear] = [0, 0, false];
  for (let i = 0; i < grey.length; i++) {
    const [red, green, blue, alpha] = data.subarray(4 * i, 4 * i + 4);
    grey[i] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    if (alpha < 255) clear = true;
    if (alpha > 127) [light, seen] = [light + grey[i], seen + 1];
  }
  if (!clear) return grey;
  const background = seen && light / seen > 127.5 ? 0 : 255;
  return grey.map((x, i) => rint(background + ((x - background) * data[4 * i + 3]) / 255));
}
