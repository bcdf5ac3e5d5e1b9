// Rows that grow at their two ends, in blocks. A block that has not changed is the same object, so that it is drawn again
// as it is whatever comes before it or after it: ten thousand rows cost no more than the first block.

const ROWS = 100;

const block = (rows) => ({ key: rows.at(-1).position, rows });
export const counted = (blocks) => blocks.reduce((sum, { rows }) => sum + rows.length, 0);

/** Newer rows, the latest first, before all others; the oldest are let go of where there are more than `most`. */
export function before(blocks, news, most) {
  const newest = blocks[0]?.rows[0].position ?? 0;
  const fresh = news.filter(({ position }) => position > newest);
  if (!fresh.length) return blocks;
  const grows = blocks[0]?.rows.length < ROWS;
  const rows = grows ? [...fresh, ...blocks[0].rows] : fresh;
  const full = [];
  while (rows.length > ROWS) full.unshift(block(rows.splice(-ROWS)));
  const all = [block(rows), ...full, ...blocks.slice(grows ? 1 : 0)];
  let there = counted(all);
  while (there - all.at(-1).rows.length >= most) there -= all.pop().rows.length;
  return all;
}

/** Older rows, the latest first, behind all others. */
export function behind(blocks, olds) {
  const oldest = blocks.at(-1)?.rows.at(-1).position ?? Infinity;
  const rows = olds.filter(({ position }) => position < oldest);
  const more = [];
  while (rows.length) more.push(block(rows.splice(0, ROWS)));
  return more.length ? [...blocks, ...more] : blocks;
}
