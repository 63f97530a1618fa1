import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BenchReport, geomeans, makeRow, summarize } from '../harness.ts';
import { formatPlot } from './plot.ts';

type Ratios = Readonly<Record<string, number>>;

/** A row in which Braid takes a second. */
const row = (name: string, ratios: Ratios, group?: string) => {
  const peers = Object.entries(ratios).map(([peer, ratio]) => [peer, summarize([ratio])]);
  const results = { braid: summarize([1]), ...Object.fromEntries(peers) };
  return makeRow({ name, unit: 's', better: 'lower', results, ...(group !== undefined && { group }) });
};

const report = (rows: BenchReport['rows'], more: Partial<BenchReport> = {}): BenchReport => ({
  bench: 'sample',
  host: { cpu: 'A CPU', cores: 2, node: 'v1' },
  rows,
  geomean: geomeans(rows),
  ...more,
});

interface Bar {
  readonly x: number;
  readonly width: number;
  readonly colour: string;
}

/** The bars, by what a pointer over them shows. */
function barsOf(svg: string): Map<string, Bar> {
  const bars = svg.matchAll(
    /<rect x="([\d.]+)" y="[\d.]+" width="([\d.]+)" height="\d+" class="(\w+)"><title>(.*?)<\/title>/g,
  );
  return new Map([...bars].map(([, x, width, colour, title]) => [title!, { x: +x!, width: +width!, colour: colour! }]));
}

const texts = (svg: string) => [...svg.matchAll(/<text [^>]*>([^<]*)<\/text>/g)].map(([, text]) => text!);
const oneOf = (svg: string) => Number(/<path d="M([\d.]+) [^"]*" class="one"\/>/.exec(svg)![1]);
const about = (a: number, b: number) => assert.ok(Math.abs(a - b) <= 0.2, `${a} is not ${b}`);

test('bars go from 1x to the ratio, on a logarithmic axis', () => {
  const svg = formatPlot(report([row('twice', { qemu: 2, native: 0.25 }), row('half', { qemu: 0.5 })]));
  const bars = barsOf(svg);
  assert.equal(bars.size, 3);
  const one = oneOf(svg);
  const twice = bars.get('twice: Braid 1.00 s, qemu 2.00 s, 2.00\u00d7')!;
  const quarter = bars.get('twice: Braid 1.00 s, native 0.250 s, 0.250\u00d7')!;
  const half = bars.get('half: Braid 1.00 s, qemu 0.500 s, 0.500\u00d7')!;
  about(twice.x, one);
  about(half.x + half.width, one);
  about(quarter.x + quarter.width, one);
  about(half.width, twice.width);
  about(quarter.width, 2 * twice.width);
  assert.equal(half.colour, twice.colour);
  assert.notEqual(quarter.colour, twice.colour);
  assert.ok(
    ['2.00\u00d7', '0.250\u00d7', 'qemu', 'native', 'twice', 'half'].every((text) => texts(svg).includes(text)),
  );
});

test('groups with their means, and where a mean must be', () => {
  const rows = [
    row('a', { qemu: 2 }, 'first'),
    row('b', { qemu: 8, native: 0.5 }, 'first'),
    row('c', { qemu: 3 }, 'second'),
    row('  apart', { qemu: 3 }),
    makeRow({ name: 'no peer', unit: 's', better: 'lower', results: [1, 2, 3], group: 'first' }),
  ];
  const musts = [{ group: 'first', peer: 'qemu', bound: 1.5, met: true }];
  const svg = formatPlot(report(rows, { musts, note: 'On a good day.' }));
  const shown = texts(svg);
  for (const text of ['first', 'second', 'other rows', 'apart', 'On a good day.', '4.00\u00d7']) {
    assert.ok(shown.includes(text), text);
  }
  assert.equal(shown.filter((text) => text === 'geometric mean').length, 1); // one row needs none
  assert.ok(!shown.includes('no peer'));
  assert.deepEqual(
    shown.filter((text) => text.startsWith('must')),
    ['must \u2265 1.5\u00d7'],
  );
  const mark = Number(/<path d="M([\d.]+) [^"]*" class="must"\/>/.exec(svg)![1]);
  const mean = barsOf(svg).get('4.00\u00d7 qemu')!;
  about((mark - mean.x) / mean.width, Math.log(1.5) / Math.log(4));
});

test('all that is drawn is on the paper, whatever the range', () => {
  for (const ratios of [[1], [1e-4, 1], [1.2, 1e5], [0.9, 1.1], [1e-3, 1e3]]) {
    const svg = formatPlot(report(ratios.map((ratio, n) => row(`row ${n}`, { qemu: ratio }, 'g'))));
    for (const { x, width } of barsOf(svg).values()) assert.ok(x >= 24 && x + width <= 880 - 24, `${x} + ${width}`);
    const ticks = texts(svg).filter((text) => /^[\d.e-]+\u00d7$/.test(text) && !text.includes('.00'));
    assert.ok(ticks.includes('1\u00d7') && ticks.length < 30, `${ticks}`);
  }
});

test('a picture of its own, from any text', () => {
  const svg = formatPlot(report([row('<a> & "b"', { 'q<mu': 2 }, 'R&D')], { note: '1 < 2' }));
  assert.match(svg, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" viewBox=/);
  assert.ok(!/href|url\(|@import|<image|<script/.test(svg));
  assert.match(svg, /prefers-color-scheme:dark/);
  assert.ok(texts(svg).includes('&#60;a&#62; &#38; &#34;b&#34;'));
  const tags = [...svg.matchAll(/<(\/?)(\w+)[^<>]*?(\/?)>/g)];
  assert.equal(tags.length, svg.split('<').length - 1); // every < begins one of them
  const open: string[] = [];
  for (const [, closing, name, alone] of tags) {
    if (closing) assert.equal(open.pop(), name);
    else if (!alone) open.push(name!);
  }
  assert.deepEqual(open, []);
});
