// The project keeps its own rules (architecture.ts), and the rules catch what they are for.

import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { sep } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Complaint, checkDevices, checkSource, FOLDERS } from './architecture.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const paths = globSync('{packages,bench,examples,fuzz,guest,scripts}/**/*.{ts,mjs}', { cwd: root })
  .map((path) => path.replaceAll(sep, '/'))
  .filter((path) => !path.includes('node_modules/'));
const files = new Set(paths);

const show = (complaints: Complaint[]) => complaints.map(({ file, line, message }) => `${file}:${line} ${message}`);

describe('the project', () => {
  test('every source keeps the rules', () => {
    const complaints = paths
      .filter((path) => path.endsWith('.ts'))
      .flatMap((path) => checkSource({ path, text: readFileSync(`${root}/${path}`, 'utf8') }, (at) => files.has(at)));
    assert.deepEqual(show(complaints), []);
  });

  test('every device folder has the same files', () => {
    assert.deepEqual(show(checkDevices(paths)), []);
  });

  test('the table of folders has no cycle at run time', () => {
    const visit = (name: string, above: string[]): void => {
      assert.ok(!above.includes(name), [...above, name].join(' -> '));
      for (const below of FOLDERS[name]!.imports) visit(below, [...above, name]);
    };
    for (const name of Object.keys(FOLDERS)) visit(name, []);
  });
});

describe('the checker', () => {
  const complaintsAbout = (text: string, path = 'packages/core/src/hart/sample.ts') =>
    checkSource({ path, text }, (at) => !at.includes('missing'));

  const flagged: [text: string, path?: string][] = [
    // I1: clocks, randomness, timers, hosts
    ['Date.now();'],
    ['const now = new Date();'],
    ['performance.now();'],
    ['Math.random();'],
    ['Math.sin(1);'],
    ["Math['exp'](1);"],
    ['const { log } = Math;'],
    ['const M = Math;'],
    ['x(Math);'],
    ['const y = x ** 0.5;'],
    ['x **= 3;'],
    ['setTimeout(() => {}, 1);'],
    ['queueMicrotask(f);'],
    ['const { env } = process;'],
    ['const o = { process };'],
    ['globalThis.x;'],
    ['window.x;'],
    ['const s = document.title;'],
    ['fetch(navigator.x);'],
    ['import.meta.url;'],
    ['AbortSignal.timeout(5);'],
    ['a.localeCompare(b);'],
    ['let d: Date;'],
    // I1: imports
    ["import { readFileSync } from 'node:fs';"],
    ["import type { Stats } from 'node:fs';"],
    ["import fc from 'fast-check';"],
    ["export * from 'left';"],
    ["await import('node:fs');"],
    ['await import(name);'],
    ["type F = import('node:fs').Stats;"],
    ["import { a } from '@braid/core';"],
    // direction
    ["import { a } from '../engine/a.ts';"],
    ["import { a } from '../hart/a.ts';", 'packages/core/src/wasm/sample.ts'],
    ["import { a } from '../../memory/a.ts';", 'packages/core/src/devices/uart/device.ts'],
    ["import { type A, b } from '../../machine/a.ts';", 'packages/core/src/devices/uart/device.ts'],
    ["import { a } from '../hart/a.ts';", 'packages/core/src/unheard-of/sample.ts'],
    ["import { a } from '../index.ts';"],
    ["import { a } from './a.test.ts';"],
    ["import { a } from './missing.ts';"],
    ["import { a } from '../../../node/src/a.ts';", 'packages/core/src/hart/sample.ts'],
    ["import { a } from '../../core/src/isa/a.ts';", 'packages/node/src/sample.ts'],
    // erasable
    ['enum E { A }', 'packages/node/src/sample.ts'],
    ['namespace N { export const a = 1; }', 'bench/sample.ts'],
    ['class C { constructor(private a: number) {} }'],
    ["import fs = require('fs');", 'packages/node/src/sample.ts'],
    ['const = ;'],
  ];
  for (const [text, path] of flagged) {
    test(`flags ${text}${path ? ` in ${path}` : ''}`, () => assert.notDeepEqual(complaintsAbout(text, path), []));
  }

  const accepted: [text: string, path?: string][] = [
    ['// Date.now(), Math.random()\nconst text = "process.env"; const pattern = /window/;'],
    ['Math.imul(1, 2) + Math.clz32(3) + Math.sqrt(2) + Math.PI;'],
    ['const size = 2 ** 32; const big = 2n ** bits;'],
    ['const o = { process: 1, Date: 2 }; o.process; o.Date; class C { fetch() {} history = 1; }'],
    ['function run(process: number) { return process; }'],
    ['type F = (event: number, location: string) => void; interface I { window: number; screen(): void; }'],
    ['new WebAssembly.Module(b); new AbortController().signal; new TextEncoder();'],
    ["import { a } from '../isa/a.ts'; import { b } from './b.ts';"],
    ["import type { A } from '../../machine/a.ts';", 'packages/core/src/devices/uart/device.ts'],
    ["import { type A } from '../../memory/a.ts';", 'packages/core/src/devices/uart/device.ts'],
    ["import { a } from '../virtio/a.ts';", 'packages/core/src/devices/block/device.ts'],
    ["export * from './timeline/a.ts';", 'packages/core/src/index.ts'],
    ["import { test } from 'node:test'; Math.random(); performance.now();", 'packages/core/src/isa/sample.test.ts'],
    ["import { Machine } from '@braid/core'; Date.now();", 'packages/node/src/sample.ts'],
  ];
  for (const [text, path] of accepted) {
    test(`accepts ${text}${path ? ` in ${path}` : ''}`, () => assert.deepEqual(show(complaintsAbout(text, path)), []));
  }

  test('says where', () => {
    assert.deepEqual(show(complaintsAbout('const a = 1;\nDate.now();\n')), [
      'packages/core/src/hart/sample.ts:2 Date: Time enters the core as an argument (I1).',
    ]);
  });

  test('misses a file in a device folder', () => {
    const folder = 'packages/core/src/devices/uart';
    assert.equal(checkDevices([`${folder}/device.ts`, `${folder}/device.test.ts`]).length, 1);
    assert.deepEqual(checkDevices(['device.ts', 'state.ts', 'device.test.ts'].map((file) => `${folder}/${file}`)), []);
  });
});
