// Drawings -> PNG files, and files by their names -> one ZIP archive, byte by byte, without compression.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function adler32(bytes) {
  let [a, b] = [1, 0];
  for (const byte of bytes) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  return (b * 65536 + a) >>> 0;
}

const encode = (text) => new TextEncoder().encode(text);
const bigEndian = (x) => [x >>> 24, (x >>> 16) & 255, (x >>> 8) & 255, x & 255];
const littleEndian = (x, n) => Array.from({ length: n }, (_, i) => Math.floor(x / 256 ** i) & 255);

function joined(parts) {
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return result;
}

/** Grey pixels, uint8, row by row -> a PNG file. A canvas could write one, but some browsers add noise to canvases. */
export function png(pixels, height, width) {
  const chunk = (kind, body) => {
    const named = joined([encode(kind), body]);
    return joined([bigEndian(body.length), named, bigEndian(crc32(named))]);
  };
  const rows = new Uint8Array(height * (width + 1)); // each row begins with 0: no filter
  for (let row = 0; row < height; row++) rows.set(pixels.subarray(row * width, (row + 1) * width), row * (width + 1) + 1);
  const header = [...bigEndian(width), ...bigEndian(height), 8, 0, 0, 0, 0];
  const signature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
  return joined([signature, chunk("IHDR", header), chunk("IDAT", stored(rows)), chunk("IEND", [])]);
}

/** Bytes -> a zlib stream that stores them as they are, in blocks of at most 65,535. */
function stored(bytes) {
  const parts = [[0x78, 0x01]];
  for (let at = 0; at < bytes.length; at += 65535) {
    const block = bytes.subarray(at, at + 65535);
    const isLast = at + 65535 >= bytes.length ? 1 : 0;
    parts.push([isLast, ...littleEndian(block.length, 2), ...littleEndian(block.length ^ 0xffff, 2)], block);
  }
  return joined([...parts, bigEndian(adler32(bytes))]);
}

/**
 * Files -> a ZIP archive. A page may write a folder only in some browsers, and on no phone; every system unpacks a ZIP.
 * @param {{name: string, bytes: Uint8Array}[]} files  names with / between folder and file
 */
export function zip(files) {
  const [bodies, entries] = [[], []];
  let at = 0;
  for (const { name, bytes } of files) {
    const path = encode(name);
    const sizes = [...littleEndian(crc32(bytes), 4), ...littleEndian(bytes.length, 4), ...littleEndian(bytes.length, 4)];
    // version 2.0, names in UTF-8, stored, 1 January 1980
    const shared = [20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0, ...sizes, ...littleEndian(path.length, 2), 0, 0];
    const local = joined([[0x50, 0x4b, 3, 4], shared, path, bytes]);
    entries.push(joined([[0x50, 0x4b, 1, 2, 20, 0], shared, Array(10).fill(0), littleEndian(at, 4), path]));
    bodies.push(local);
    at += local.length;
  }
  const directory = joined(entries);
  const count = littleEndian(files.length, 2);
  const end = [0x50, 0x4b, 5, 6, 0, 0, 0, 0, ...count, ...count, ...littleEndian(directory.length, 4), ...littleEndian(at, 4), 0, 0];
  return joined([...bodies, directory, end]);
}
