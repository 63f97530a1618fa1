import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import {
  alternate,
  findPeer,
  geomeans,
  geometricMean,
  makeRow,
  median,
  Report,
  secondsUntil,
  usageOf,
  Watched,
} from './harness.ts';
import { format, formatTable } from './lib/table.ts';

const linux = { skip: process.platform !== 'linux' && 'reads /proc' };

/** A child that runs a script in this same Node. */
const watch = (script: string) => new Watched(process.execPath, ['-e', script]);

describe('figures', () => {
  test('median and geometric mean', () => {
    assert.equal(median([3, 1, 2]), 2);
    assert.equal(median([4, 1, 3, 2]), 2.5);
    assert.throws(() => median([]), RangeError);
    assert.ok(Math.abs(geometricMean([1, 4, 16]) - 4) < 1e-12);
    assert.throws(() => geometricMean([]), RangeError);
  });

  test('three significant digits', () => {
    assert.deepEqual([0, 0.01234, 1.234, 12.34, 123.4, 1234.5, -2.5].map(format), [
      '0',
      '0.0123',
      '1.23',
      '12.3',
      '123',
      '1235',
      '-2.50',
    ]);
  });

  test('competitors run by turns, in turning order', async () => {
    const order: string[] = [];
    const competitor = (name: string, values: number[]) => async () => {
      order.push(name);
      return values.shift()!;
    };
    const results = await alternate(3, {
      braid: competitor('braid', [5, 1, 3]),
      qemu: competitor('qemu', [2, 4, 6]),
      native: undefined,
    });
    assert.deepEqual(order, ['braid', 'qemu', 'qemu', 'braid', 'braid', 'qemu']);
    assert.deepEqual(results.braid, { median: 3, spread: [1, 5], samples: [5, 1, 3] });
    assert.equal(results.qemu!.median, 4);
    assert.deepEqual(Object.keys(results), ['braid', 'qemu']);
    await assert.rejects(alternate(2, { braid: () => 1 }), RangeError);
  });

  test('a peer that fails loses its run, one that goes on failing loses its place, and no row is lost', async () => {
    let runs = 0;
    const peers = {
      once: () => {
        if (runs++ === 0) throw new Error('it hung\nwhat it said last');
        return 4;
      },
      always: () => Promise.reject(new Error('no prompt')),
    };
    using report = new Report('sample');
    const results = await alternate(4, { braid: () => 2, ...peers });
    report.add({ name: 'a', unit: 's', better: 'lower', results });
    assert.deepEqual(results.once, { median: 4, spread: [4, 4], samples: [4, 4, 4] });
    assert.deepEqual(Object.keys(results), ['braid', 'once']);
    const { rows, failures } = report.toJSON();
    assert.deepEqual(rows[0]!.ratio, { once: 2 });
    assert.deepEqual(failures, ['once: it hung', 'always: no prompt', 'always: no prompt']);
    const table = formatTable({ ...report.toJSON(), unfinished: true });
    assert.match(table, /No figure of one run: once: it hung\n/);
    assert.match(table, /rows are missing/);
    await assert.rejects(alternate(3, { braid: () => Promise.reject(new Error('our own')) }), /our own/);
  });

  test('a benchmark that fails shows the rows that it has', () => {
    const harness = new URL('./harness.ts', import.meta.url).href;
    const script = `import { Report } from '${harness}';
      using report = new Report('sample');
      report.add({ name: 'a', unit: 's', better: 'lower', results: [1, 2, 3] });
      throw new Error('then it failed');`;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', script, '--', '--json'], {
      encoding: 'utf8',
    });
    assert.equal(child.status, 1);
    assert.match(child.stderr, /then it failed/);
    const { rows, unfinished } = JSON.parse(child.stdout);
    assert.deepEqual([rows.length, unfinished], [1, true]);
  });

  test('a ratio above 1 means that Braid is better', () => {
    const results = (braid: number, qemu: number) => ({
      braid: { median: braid, spread: [braid, braid] as [number, number], samples: [braid] },
      qemu: { median: qemu, spread: [qemu, qemu] as [number, number], samples: [qemu] },
    });
    const seconds = makeRow({ name: 'a', unit: 's', better: 'lower', results: results(2, 8), group: 'g', must: 2 });
    const mips = makeRow({ name: 'b', unit: 'MIPS', better: 'higher', results: results(2, 8), group: 'g', must: 3 });
    const alone = makeRow({ name: 'c', unit: 's', better: 'lower', results: [1, 2, 3], group: 'g' });
    const apart = makeRow({ name: 'd', unit: 's', better: 'lower', results: results(1, 9) });
    assert.deepEqual([seconds.ratio.qemu, seconds.must], [4, { bound: 2, met: true }]);
    assert.deepEqual([mips.ratio.qemu, mips.must], [0.25, { bound: 3, met: false }]);
    assert.deepEqual([alone.value, alone.spread, alone.peers, alone.ratio], [2, [1, 3], {}, {}]);
    assert.deepEqual([seconds.peerSpread, alone.peerSpread], [{ qemu: [8, 8] }, {}]);
    assert.ok(!('must' in alone) && !('group' in apart));
    const means = geomeans([seconds, mips, alone, apart]);
    assert.deepEqual(Object.keys(means), ['g']);
    assert.ok(Math.abs(means.g!.qemu! - 1) < 1e-12);
  });

  test('the report as JSON and as a table', () => {
    const report = new Report('sample');
    report.add({ name: 'one hart', unit: 's', better: 'lower', results: [1, 1.5, 1.25], must: 1.2 });
    const parsed = JSON.parse(JSON.stringify(report));
    assert.deepEqual(Object.keys(parsed), ['bench', 'host', 'rows', 'geomean']);
    assert.deepEqual(Object.keys(parsed.host), ['cpu', 'cores', 'node']);
    assert.equal(parsed.rows[0].value, 1.25);
    const braid = { median: 1, spread: [1, 1] as [number, number], samples: [1] };
    report.add({ name: 'b', unit: 'MB/s', better: 'higher', results: { braid, qemu: braid }, group: 'disk' });
    const host = { cpu: 'A CPU', cores: 2, node: 'v1' };
    assert.equal(
      formatTable({ ...report.toJSON(), host }),
      `sample: A CPU, 2 cores, Node v1

          unit  braid    min - max  qemu  ratio            must
one hart  s      1.25  1.00 - 1.50     -      -  <= 1.20 MISSED
b         MB/s   1.00  1.00 - 1.00  1.00  1.00x
disk: 1.00x qemu (geometric mean)
A ratio above 1 means that Braid is better.`,
    );
  });

  test('what is promised of a group, and the note', () => {
    const report = new Report('sample', 'On a good day.');
    const result = (value: number) => ({ median: value, spread: [value, value] as [number, number], samples: [value] });
    for (const [name, seconds] of Object.entries({ a: 2, b: 8 })) {
      const results = { braid: result(1), qemu: result(seconds) };
      report.add({ name, unit: 's', better: 'lower', results, group: 'g' });
    }
    report.must('g', 'qemu', 3.5);
    report.must('g', 'qemu', 4.5);
    report.must('g', 'a peer that is not here', 1);
    report.must('no such group', 'qemu', 1);
    assert.deepEqual(report.toJSON().musts, [
      { group: 'g', peer: 'qemu', bound: 3.5, met: true },
      { group: 'g', peer: 'qemu', bound: 4.5, met: false },
    ]);
    const lines = formatTable(report.toJSON()).split('\n');
    assert.equal(lines[1], 'On a good day.');
    assert.ok(lines.includes('g: 4.00x qemu (geometric mean), must >= 3.50 met'));
    assert.ok(!('musts' in new Report('sample').toJSON()));
  });

  test('a report is kept as an object, and as a picture when it compares', () => {
    const folder = mkdtempSync(join(tmpdir(), 'braid-report-'));
    try {
      const alone = new Report('alone');
      alone.add({ name: 'a', unit: 's', better: 'lower', results: [1, 2, 3], group: 'g' });
      alone.save(folder);
      const compared = new Report('compared');
      const result = { median: 1, spread: [1, 1] as [number, number], samples: [1] };
      compared.add({ name: 'a', unit: 's', better: 'lower', results: { braid: result, qemu: result } });
      compared.save(join(folder, 'below'));
      assert.deepEqual(readdirSync(folder).sort(), ['alone.json', 'below']);
      assert.deepEqual(readdirSync(join(folder, 'below')).sort(), ['compared.json', 'compared.svg']);
      assert.equal(readFileSync(join(folder, 'alone.json'), 'utf8'), `${JSON.stringify(alone)}\n`);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('a peer that is absent', () => {
    assert.equal(findPeer('surely-not-a-command'), undefined);
    assert.ok(process.platform === 'win32' || findPeer('sh'));
  });
});

describe('a watched child', () => {
  test('times patterns one after the other, and sends input', async () => {
    await using child = watch(
      `console.log('ready ready'); process.stdin.on('data', (d) => console.error('got ' + d)); setTimeout(() => {}, 1e6)`,
    );
    const first = await child.until(/rea.y/, 20);
    const second = await child.until('ready', 20);
    assert.ok(first > 0 && second >= first);
    child.send('this\n');
    await child.until('got this', 20);
    assert.ok(child.seconds >= second);
  });

  test('timed to a pattern and no further', async () => {
    const seconds = await secondsUntil(process.execPath, ['-e', `console.log('up'); setTimeout(() => {}, 1e6)`], 'up');
    assert.ok(seconds > 0 && seconds < 20);
  });

  test('stopped, and going on', linux, async () => {
    await using child = watch(`setInterval(() => console.log('tick ' + process.pid), 5)`);
    await child.until(/tick \d+\n/, 20);
    const pid = /\d+/.exec(child.output)![0];
    child.pause();
    const stopped = () => / T /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
    while (!stopped()) await setImmediate();
    child.resume();
    await child.until('tick', 20);
    assert.equal(stopped(), false);
  });

  test('that ends too early, is late, or cannot start', async () => {
    await using early = watch(`console.log('last words'); process.exit(3)`);
    await assert.rejects(early.until('never', 20), /exit code 3.*last words/s);
    assert.equal(await early.exit(), 3);
    await using late = watch(`setTimeout(() => {}, 1e6)`);
    await assert.rejects(late.until('never', 0.05), /more than 0.05 s/);
    await using none = new Watched('surely-not-a-command', []);
    await assert.rejects(none.until('x', 20), /could not start/);
    await assert.rejects(late.exit(0.05), /did not end within 0.05 s/);
  });

  test('its use of time and memory, children included, until it is killed', linux, async () => {
    const busy = `while (process.cpuUsage().user < 200e3); console.log('done'); setTimeout(() => {}, 1e6)`;
    await using child = watch(
      `require('child_process').spawn(process.execPath, ['-e', ${JSON.stringify(busy)}], { stdio: 'inherit' })`,
    );
    await child.until('done', 20);
    const { cpuSeconds, rssBytes, peakRssBytes } = child.usage();
    assert.ok(cpuSeconds >= 0.15 && cpuSeconds < 20, `${cpuSeconds} s`);
    assert.ok(peakRssBytes > 40e6, `${peakRssBytes} bytes`); // two Nodes
    assert.ok(rssBytes > 20e6 && rssBytes <= peakRssBytes, `${rssBytes} of ${peakRssBytes} bytes`);
    await child.kill();
    assert.deepEqual(child.usage(), { cpuSeconds: 0, rssBytes: 0, peakRssBytes: 0 });
    assert.ok(usageOf(process.pid).peakRssBytes > 0);
  });
});
