// A report's ratios as a picture: a self-contained SVG that follows the reader's light or dark scheme.
//
// One panel for each group of rows; for each row a bar for each peer, on a logarithmic axis, from 1x to the ratio: to the right
// where Braid is better, to the left where the peer is. A group's last row is its geometric mean, with a mark where it must be.

import type { BenchReport, Row } from '../harness.ts';
import { format } from './table.ts';

const WIDTH = 880;
const MARGIN = 24;
/** At the ends of the axis, for the figures beside the longest bars. */
const FIGURE = 50;
/** For what a mean must be, beside its figure. */
const MUST = 60;
const BAR = 9;
const MEAN_BAR = 12;
const BAR_GAP = 2;
const ROW_GAP = 10;
const HEADING = 34;
/** Widths, on average; labels get the room that the longest needs. */
const CHARACTER = 6.6;
const BOLD_CHARACTER = 7.8;

/** Text, lines, then a colour for each peer in turn: each in light and in dark. */
const LIGHT = ['#fff', '#1c2128', '#59636e', '#d1d9e0', '#2f6db5', '#c4620e', '#4f7f2a', '#8a52a3'];
const DARK = ['#0d1117', '#e6edf3', '#9198a1', '#3d444d', '#6cabec', '#ee9a55', '#98c66b', '#c99be0'];
const PEER_COLOURS = 4;

interface PlotRow {
  readonly label: string;
  readonly ratio: Readonly<Record<string, number>>;
  /** What a pointer over the bar shows. */
  readonly details: Readonly<Record<string, string>>;
  /** Of a geometric mean. */
  readonly mean?: { readonly musts: Readonly<Record<string, number>> };
}

interface Panel {
  readonly heading: string;
  readonly peers: readonly string[];
  readonly rows: readonly PlotRow[];
}

const times = (ratio: number) => `${format(ratio)}\u00d7`;
const escapeText = (text: string) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
const keysOf = (records: readonly Readonly<Record<string, unknown>>[]) => [...new Set(records.flatMap(Object.keys))];

/** The picture of a report in which some row has a ratio. */
export function formatPlot(report: BenchReport): string {
  const panels = panelsOf(report);
  const peers = [...new Set(panels.flatMap((panel) => panel.peers))];
  const drawn = panels.flatMap(({ rows }) => rows);
  const labelWidth = Math.max(...drawn.map(({ label, mean }) => label.length * (mean ? BOLD_CHARACTER : CHARACTER)));
  const left = MARGIN + labelWidth + FIGURE;
  const right = WIDTH - MARGIN - FIGURE - (report.musts ? MUST : 0);
  const values = drawn.flatMap(({ ratio, mean }) => [...Object.values(ratio), ...Object.values(mean?.musts ?? {})]);
  const ticks = ticksAround(values);
  const [from, to] = [Math.log(ticks[0]!), Math.log(ticks.at(-1)!)];
  const place = (ratio: number) => left + ((Math.log(ratio) - from) / (to - from)) * (right - left);

  const body: string[] = [];
  const text = (x: number, y: number, content: string, attributes = '') =>
    body.push(`<text x="${round(x)}" y="${round(y)}"${attributes && ` ${attributes}`}>${escapeText(content)}</text>`);

  let y = MARGIN + 16;
  text(MARGIN, y, `${report.bench}: Braid compared with ${listOf(peers)}`, 'class="title"');
  const { cpu, cores, node } = report.host;
  text(MARGIN, (y += 19), `${cpu}, ${cores} ${cores === 1 ? 'core' : 'cores'}, Node ${node}`, 'class="quiet"');
  if (report.note) text(MARGIN, (y += 16), report.note, 'class="quiet"');
  y += 24;
  let legend = MARGIN;
  peers.forEach((peer, n) => {
    body.push(`<rect x="${round(legend)}" y="${y - 9}" width="10" height="10" class="${classOf(n)}"/>`);
    text(legend + 15, y, peer);
    legend += 36 + peer.length * CHARACTER;
  });
  y += 26;
  text(place(1) - 8, y, '\u2190 the peer is better', 'class="quiet end"');
  text(place(1) + 8, y, 'Braid is better \u2192', 'class="quiet"');

  const top = y + 8;
  const bars: string[] = [];
  const drawing = body.length; // the axis is drawn below the bars, once its height is known
  for (const { heading, peers: shown, rows } of panels) {
    y += HEADING;
    if (heading) text(MARGIN, y - 4, heading, 'class="heading"');
    y += 8;
    for (const row of rows) {
      const present = shown.filter((peer) => row.ratio[peer] !== undefined);
      const thickness = row.mean ? MEAN_BAR : BAR;
      const height = present.length * (thickness + BAR_GAP) - BAR_GAP;
      text(MARGIN + labelWidth, y + height / 2 + 4, row.label, `class="${row.mean ? 'end mean' : 'end'}"`);
      present.forEach((peer, n) => {
        const ratio = row.ratio[peer]!;
        const barTop = y + n * (thickness + BAR_GAP);
        const [start, end] = [place(1), place(ratio)].sort((a, b) => a - b) as [number, number];
        const must = row.mean?.musts[peer];
        body.push(
          `<rect x="${round(start)}" y="${barTop}" width="${round(Math.max(end - start, 1))}" height="${thickness}" ` +
            `class="${classOf(peers.indexOf(peer))}"><title>${escapeText(row.details[peer]!)}</title></rect>`,
        );
        const figure = row.mean ? 'figure mean' : 'figure';
        const middle = barTop + thickness / 2 + 3.5;
        if (ratio < 1) text(start - 4, middle, times(ratio), `class="${figure} end"`);
        else text(end + 4, middle, times(ratio), `class="${figure}"`);
        if (must !== undefined) {
          const at = round(place(must));
          bars.push(`<path d="M${at} ${barTop - 2}v${thickness + 4}" class="must"/>`);
          const clear = ratio >= 1 ? Math.max(place(must), end + 40) : place(must);
          text(clear + 5, middle, `must \u2265 ${must}\u00d7`, 'class="figure quiet"');
        }
      });
      y += height + ROW_GAP;
    }
  }
  body.push(...bars);

  const axis = ticks.flatMap((tick) => {
    const x = round(place(tick));
    return [
      `<path d="M${x} ${top}V${y}" class="${tick === 1 ? 'one' : 'grid'}"/>`,
      `<text x="${x}" y="${y + 16}" class="figure middle">${tick}\u00d7</text>`,
    ];
  });
  body.splice(drawing, 0, ...axis);
  y += 36;
  text((left + right) / 2, y, 'how many times better Braid is (logarithmic)', 'class="quiet middle"');
  const height = y + MARGIN - 8;
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}">`,
    `<title>${escapeText(`${report.bench}: Braid compared with ${listOf(peers)}`)}</title>`,
    `<style>${style()}</style>`,
    `<rect width="${WIDTH}" height="${height}" class="paper"/>`,
    ...body,
    '</svg>',
  ].join('\n')}\n`;
}

function panelsOf(report: BenchReport): Panel[] {
  const compared = report.rows.filter(({ ratio }) => Object.keys(ratio).length > 0);
  const groups = new Set(compared.map(({ group }) => group));
  if (groups.delete(undefined)) groups.add(undefined); // at the end
  return [...groups].map((group) => {
    const rows = compared.filter((row) => row.group === group);
    const peers = keysOf(rows.map(({ ratio }) => ratio));
    const plotted: PlotRow[] = rows.map((row) => ({
      label: row.name.trim(),
      ratio: row.ratio,
      details: detailsOf(row),
    }));
    const means = group === undefined ? undefined : report.geomean[group];
    if (means && rows.length > 1) {
      const musts = (report.musts ?? []).filter((must) => must.group === group);
      plotted.push({
        label: 'geometric mean',
        ratio: means,
        details: Object.fromEntries(Object.entries(means).map(([peer, mean]) => [peer, `${times(mean)} ${peer}`])),
        mean: { musts: Object.fromEntries(musts.map(({ peer, bound }) => [peer, bound])) },
      });
    }
    return { heading: group ?? (groups.size > 1 ? 'other rows' : ''), peers, rows: plotted };
  });
}

const detailsOf = ({ name, unit, value, peers, ratio }: Row) =>
  Object.fromEntries(
    Object.entries(peers).map(([peer, other]) => [
      peer,
      `${name.trim()}: Braid ${format(value)} ${unit}, ${peer} ${format(other)} ${unit}, ${times(ratio[peer]!)}`,
    ]),
  );

/** Values of the axis that hold 1 and all of these between them: 1, 2 and 5 of each power of ten, or only 1 of a long row. */
function ticksAround(values: readonly number[]): number[] {
  const [low, high] = [Math.min(0.5, ...values), Math.max(2, ...values)];
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const digits = last - first > 4 ? [1] : [1, 2, 5];
  const ticks: number[] = [];
  for (let power = first; power <= last; power++) {
    for (const digit of digits) ticks.push(Number(`${digit}e${power}`));
  }
  const start = ticks.findLastIndex((tick) => tick <= low);
  const end = ticks.findIndex((tick) => tick >= high);
  return ticks.slice(start, end + 1);
}

const round = (value: number) => Math.round(value * 10) / 10;
const classOf = (peer: number) => `peer${peer % PEER_COLOURS}`;
const listOf = (names: readonly string[]) =>
  names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;

function style(): string {
  const colours = ([paper, text, quiet, grid, ...peers]: readonly string[]) =>
    `.paper{fill:${paper}}.figure{stroke:${paper}}text{fill:${text}}.quiet{fill:${quiet}}.grid{stroke:${grid}}.one,.must{stroke:${text}}` +
    peers.map((colour, n) => `.peer${n}{fill:${colour}}`).join('');
  return (
    'text{font:12px system-ui,"Segoe UI",Helvetica,Arial,sans-serif}.title{font-size:17px;font-weight:600}' +
    '.heading{font-size:13px;font-weight:600}.mean{font-weight:600}.figure{font-size:10px;paint-order:stroke;stroke-width:3px;stroke-linejoin:round}' +
    '.end{text-anchor:end}.middle{text-anchor:middle}' +
    `path{fill:none}.one{stroke-width:1.5}.must{stroke-width:2.5}${colours(LIGHT)}` +
    `@media(prefers-color-scheme:dark){${colours(DARK)}}`
  );
}
