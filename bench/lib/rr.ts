// rr, which records native programs: a peer where it runs.

import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { findPeer } from '../harness.ts';
import type { Scratch } from './guest.ts';

/** What has to come before a command to have it recorded, or why that cannot be done here. */
export type Rr = { readonly record: () => readonly string[] } | { readonly refusal: string };

export function findRr(scratch: Scratch): Rr {
  const rr = findPeer('rr');
  if (rr === undefined) return { refusal: 'rr does not run here: it is not installed' };
  const trace = join(scratch.folder, 'rr');
  const record = () => {
    rmSync(trace, { recursive: true, force: true });
    return [rr, 'record', '-o', trace];
  };
  const { status, stderr, error } = spawnSync(rr, [...record().slice(1), 'true'], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  if (status === 0) return { record };
  const lines = (stderr ?? '').split('\n').map((line) => line.trim());
  return {
    refusal: `rr does not run here: ${error?.message ?? lines.find((line) => line !== '') ?? `exit code ${status}`}`,
  };
}
