// A report as a table, for a terminal.

import type { BenchReport } from '../harness.ts';

/** Three significant digits and no exponent: 0.0123, 1.23, 12.3, 1234. */
export function format(value: number): string {
  if (!Number.isFinite(value) || value === 0) return String(value);
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 9));
}

export function formatTable(report: BenchReport): string {
  const peers = [...new Set(report.rows.flatMap((row) => Object.keys(row.peers)))];
  const promises = report.rows.some((row) => row.must);
  const header = ['', 'unit', 'braid', 'min - max', ...peers.flatMap((peer) => [peer, 'ratio'])];
  const table = [promises ? [...header, 'must'] : header];
  for (const row of report.rows) {
    const cells = [row.name, row.unit, format(row.value), row.spread.map(format).join(' - ')];
    for (const peer of peers) {
      const value = row.peers[peer];
      cells.push(value === undefined ? '-' : format(value), value === undefined ? '-' : `${format(row.ratio[peer]!)}x`);
    }
    if (promises) {
      const sign = row.better === 'lower' ? '<=' : '>=';
      cells.push(row.must ? `${sign} ${format(row.must.bound)} ${row.must.met ? 'met' : 'MISSED'}` : '');
    }
    table.push(cells);
  }
  const widths = table[0]!.map((_, column) => Math.max(...table.map((cells) => cells[column]!.length)));
  const lines = table.map((cells) =>
    cells
      .map((cell, column) => (column < 2 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
  const { cpu, cores, node } = report.host;
  lines.unshift(
    `${report.bench}: ${cpu}, ${cores} ${cores === 1 ? 'core' : 'cores'}, Node ${node}`,
    ...(report.note ? [report.note] : []),
    '',
  );
  for (const [group, means] of Object.entries(report.geomean)) {
    for (const [peer, mean] of Object.entries(means)) {
      const must = report.musts?.find((must) => must.group === group && must.peer === peer);
      const promise = must ? `, must >= ${format(must.bound)} ${must.met ? 'met' : 'MISSED'}` : '';
      lines.push(`${group}: ${format(mean)}x ${peer} (geometric mean)${promise}`);
    }
  }
  if (peers.length > 0) lines.push('A ratio above 1 means that Braid is better.');
  for (const failure of report.failures ?? []) lines.push(`No figure of one run: ${failure}`);
  if (report.unfinished) lines.push('The benchmark failed before its end: rows are missing.');
  return lines.join('\n');
}
