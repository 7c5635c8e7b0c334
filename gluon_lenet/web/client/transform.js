// uint8 28x28 -> a net's input: resized and padded as in its training, (pixel / 255 - mean) / std in float32.

/** @param {{resize: ?number, pad: number, mean: number, std: number}} transform  the recipe's preprocessing */
export function prepare(image, side, transform) {
  const resized = transform.resize ? resizeBilinear(image, side, transform.resize) : image;
  const inner = transform.resize || side;
  const outer = inner + 2 * transform.pad;
  const result = new Float32Array(outer * outer);
  const table = Float32Array.from({ length: 256 }, (_, pixel) => normalized(pixel, transform));
  result.fill(table[0]);
  for (let row = 0; row < inner; row++) {
    const start = (row + transform.pad) * outer + transform.pad;
    for (let column = 0; column < inner; column++) result[start + column] = table[resized[row * inner + column]];
  }
  return result;
}

function normalized(pixel, { mean, std }) {
  const share = Math.fround(pixel / 255);
  if (mean === 0 && std === 1) return share;
  return Math.fround(Math.fround(share - Math.fround(mean)) / Math.fround(std));
}

/** A square uint8 image -> one of `target` pixels a side, in fixed point as OpenCV, and so MXNet, computes it. */
export function resizeBilinear(image, side, target) {
  const across = taps(side, target, true);
  const down = taps(side, target, false);
  const rows = new Int32Array(side * target);
  for (let row = 0; row < side; row++) {
    across.forEach(({ first, second, a, b }, column) => {
      rows[row * target + column] = image[row * side + first] * a + image[row * side + second] * b;
    });
  }
  const result = new Uint8Array(target * target);
  down.forEach(({ first, second, a, b }, row) => {
    for (let column = 0; column < target; column++) {
      const above = (a * (rows[first * target + column] >> 4)) >> 16;
      const below = (b * (rows[second * target + column] >> 4)) >> 16;
      result[row * target + column] = (above + below + 2) >> 2;
    }
  });
  return result;
}

/** For each of `target` pixels the two source pixels between which it lies, and their weights of 2048 in sum. */
function taps(side, target, clampWeights) {
  return Array.from({ length: target }, (_, i) => {
    const place = Math.fround((i + 0.5) * (side / target) - 0.5);
    let first = Math.floor(place);
    let share = Math.fround(place - first);
    if (clampWeights && first < 0) [first, share] = [0, 0];
    if (clampWeights && first >= side - 1) [first, share] = [side - 1, 0];
    const inside = (k) => Math.min(Math.max(k, 0), side - 1);
    return { first: inside(first), second: inside(first + 1), a: Math.round((1 - share) * 2048), b: Math.round(share * 2048) };
  });
}
