// Frame ranges as text, by the rules of pipeline/frames.py (without steps, which the page never writes).

/** `[1001, 1002, 1003, 1010]` to `1001-1003,1010`. */
export function rangeText(frames) {
  const sorted = [...new Set(frames)].sort((a, b) => a - b);
  const parts = [];
  for (let i = 0; i < sorted.length; ) {
    let j = i;
    while (j + 1 < sorted.length && sorted[j + 1] === sorted[j] + 1) j++;
    parts.push(i === j ? `${sorted[i]}` : `${sorted[i]}-${sorted[j]}`);
    i = j + 1;
  }
  return parts.join(",");
}
