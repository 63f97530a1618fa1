import assert from 'node:assert/strict';
import { test } from 'node:test';
import { infoJson, infoLines, type MarkView, markLines, marksJson, type RecordingView } from './recording-text.ts';

const moment = (at: bigint, round: bigint) => ({ at, time: at * 10n, position: { round, hart: 1, step: 20 } });
const mark = (at: bigint, name: string, kind = 'guest'): MarkView => ({ ...moment(at, 7n), kind, name });

const recording: RecordingView = {
  info: {
    braid: '0.1.0',
    console: 'virtio',
    memory: 2 ** 28,
    harts: 4,
    seed: 29n,
    epoch: 0n,
    disks: [
      { name: 'root.img', size: 2n ** 31n, readOnly: false },
      { name: 'data\x1b[2J', size: 512n, readOnly: true },
    ],
    time: 'virtual',
    title: 'notices',
  },
  complete: true,
  stopped: undefined,
  bytes: {
    events: { stored: 120, raw: 300 },
    pages: { stored: 3 * 2 ** 20, raw: 12 * 2 ** 20 },
    disk: { stored: 0, raw: 0 },
    end: { stored: 50, raw: 50 },
  },
  stretches: [{ log: { length: 3 } }, { log: { length: 4 } }],
  keyframes: [moment(0n, 5n), moment(1000n, 6n)],
  marks: [mark(0n, 'begin', 'begin'), mark(500n, 'round'), mark(600n, 'round'), mark(1_234_567n, 'bad\x1b[31m\nname')],
  end: { ...moment(1_234_567n, 8n), hash: 'abc', exit: undefined, why: 'the recorder was stopped' },
};

test('what a recording is, line by line', () => {
  assert.deepEqual(infoLines(recording), [
    'Recorded  notices, by Braid 0.1.0',
    'Machine   4 harts, 256 MiB, seed 29, virtual time',
    'Disks     root.img, 2.00 GiB',
    '          data\\x1b[2J, 512 bytes, read only',
    'Begins    0.000000 s of guest time, at 5:1:20',
    'Ends      0.012345 s of guest time, at 8:1:20: the recorder was stopped',
    'Length    1,234,567 steps, 0.012345 s of guest time',
    'Holds     2 keyframes, 7 events, 4 marks',
    'Size      3.00 MiB: pages 3.00 MiB (of 12.0 MiB), events 120 bytes (of 300 bytes), end 50 bytes',
    'Replaced  1 time: its state was that of another machine then',
    '          "braid marks" lists the marks',
  ]);
  const exit = { kind: 'poweroff', code: 0 } as const;
  const cut = infoLines({ ...recording, complete: false, marks: [], end: { ...recording.end, exit } });
  assert.match(cut[5]!, /at 8:1:20: poweroff, code 0$/);
  assert.match(cut.at(-1)!, /^Not whole it was cut off/);
  const stopped = { offset: 7000, why: 'chunk 3 is damaged' };
  const part = infoLines({ ...recording, complete: false, stopped, marks: [] });
  assert.match(part.at(-1)!, /^Not whole it is used up to byte 7000 of its file, .*: chunk 3 is damaged$/);
  assert.deepEqual((infoJson({ ...recording, stopped }) as { stopped?: object }).stopped, stopped);
});

test('marks in columns; those of one name can be told apart, and none can do anything to a terminal', () => {
  assert.deepEqual(markLines(recording.marks), [
    '     step  guest time  position  kind   name',
    '        0  0.000000 s  7:1:20    begin  begin',
    '      500  0.000005 s  7:1:20    guest  round#1',
    '      600  0.000006 s  7:1:20    guest  round#2',
    '1,234,567  0.012345 s  7:1:20    guest  bad\\x1b[31m\\nname',
  ]);
});

test('as JSON: numbers are numbers, names are as they are', () => {
  const json = JSON.parse(JSON.stringify(infoJson(recording)));
  assert.deepEqual(
    [json.seed, json.events, json.keyframes, json.end.step, json.end.hash, json.bytes.events.raw, json.disks[0].size],
    ['29', 7, 2, 1_234_567, 'abc', 300, 2 ** 31],
  );
  assert.deepEqual(JSON.parse(JSON.stringify(marksJson(recording.marks)))[3], {
    step: 1_234_567,
    seconds: 0.01234567,
    position: '7:1:20',
    kind: 'guest',
    name: 'bad\x1b[31m\nname',
  });
});
