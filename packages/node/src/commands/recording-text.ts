/** What is in a recording, as text and as JSON. Names in it may be the guest's: text has them escaped. */

import { formatPosition, type Position } from '@braid/core/machine/log.ts';
import type { Exit } from '@braid/core/machine/options.ts';
import { escapeGuestText } from '@braid/core/text/escape.ts';
import { formatBytes, formatCount, formatTime, plural } from './quantities.ts';

/** A moment in the three ways that it is known by. */
export interface Moment {
  readonly at: bigint;
  readonly position: Position;
  readonly time: bigint;
}

export interface MarkView extends Moment {
  readonly kind: string;
  readonly name: string;
}

/** What is told of a recording. */
export interface RecordingView {
  readonly info: {
    readonly braid: string;
    readonly console: string;
    readonly memory: number;
    readonly harts: number;
    readonly seed: bigint;
    readonly epoch: bigint;
    readonly disks: readonly { readonly size: bigint; readonly readOnly: boolean; readonly name: string }[];
    readonly time: string;
    readonly title: string;
  };
  /** Whether it was ended, rather than cut off. */
  readonly complete: boolean;
  /** The part of the file with which it ends although the file goes on. */
  readonly stopped: { readonly offset: number; readonly why: string } | undefined;
  /** Bytes by kind of content: in the file, and when they are unpacked. */
  readonly bytes: Readonly<Record<string, { readonly stored: number; readonly raw: number }>>;
  readonly stretches: readonly { readonly log: { readonly length: number } }[];
  readonly keyframes: readonly Moment[];
  readonly marks: readonly MarkView[];
  readonly end: Moment & { readonly hash: string | undefined; readonly exit: Exit | undefined; readonly why: string };
}

/** Longer names are cut. */
const NAME = 60;

export function infoLines(recording: RecordingView): string[] {
  const { info, end, keyframes, stretches, marks, complete, stopped } = recording;
  const begin = keyframes[0]!;
  const disks = info.disks.map(
    ({ name, size, readOnly }) => `${shown(name)}, ${formatBytes(size)}${readOnly ? ', read only' : ''}`,
  );
  const rows: [string, string][] = [
    ['Recorded', `${shown(info.title)}, by Braid ${shown(info.braid)}`],
    ['Machine', `${plural(info.harts, 'hart')}, ${formatBytes(info.memory)}, seed ${info.seed}, ${info.time} time`],
    ...disks.map((disk, n): [string, string] => [n === 0 ? 'Disks' : '', disk]),
    ['Begins', momentText(begin)],
    ['Ends', `${momentText(end)}: ${ending(recording)}`],
    ['Length', `${plural(end.at, 'step')}, ${formatTime(end.time - begin.time)} of guest time`],
    ['Holds', `${counted(recording).join(', ')}`],
    ['Size', sizes(recording)],
  ];
  if (stretches.length > 1) {
    rows.push(['Replaced', `${plural(stretches.length - 1, 'time')}: its state was that of another machine then`]);
  }
  if (stopped) {
    rows.push(['Not whole', stoppedText(stopped)]);
  } else if (!complete) {
    const what = 'it was cut off, and is used up to its last whole part: what was recorded after that is lost';
    rows.push(['Not whole', what]);
  }
  if (marks.length > 0) rows.push(['', '"braid marks" lists the marks']);
  return rows.map(([name, text]) => `${name.padEnd(10)}${text}`.trimEnd());
}

/** Where a recording ends although its file goes on, and why. */
export function stoppedText({ offset, why }: NonNullable<RecordingView['stopped']>): string {
  return `it is used up to byte ${offset} of its file, where this is wrong: ${why}`;
}

function counted({ keyframes, stretches, marks }: RecordingView): string[] {
  return [plural(keyframes.length, 'keyframe'), plural(eventsOf(stretches), 'event'), plural(marks.length, 'mark')];
}

function eventsOf(stretches: RecordingView['stretches']): number {
  return stretches.reduce((sum, { log }) => sum + log.length, 0);
}

function sizes({ bytes }: RecordingView): string {
  const kinds = Object.entries(bytes).filter(([, { stored }]) => stored > 0);
  const all = kinds.reduce((sum, [, { stored }]) => sum + stored, 0);
  kinds.sort(([, a], [, b]) => b.stored - a.stored);
  const parts = kinds.map(([kind, { stored, raw }]) =>
    raw > stored ? `${kind} ${formatBytes(stored)} (of ${formatBytes(raw)})` : `${kind} ${formatBytes(stored)}`,
  );
  return `${formatBytes(all)}: ${parts.join(', ')}`;
}

function ending({ end }: RecordingView): string {
  return end.exit === undefined ? shown(end.why) : `${end.exit.kind}, code ${end.exit.code}`;
}

function momentText({ time, position }: Moment): string {
  return `${formatTime(time)} of guest time, at ${formatPosition(position)}`;
}

export function infoJson(recording: RecordingView): object {
  const { info, end, keyframes, stretches, marks, complete, stopped, bytes } = recording;
  return {
    ...info,
    seed: String(info.seed),
    epoch: String(info.epoch),
    disks: info.disks.map((disk) => ({ ...disk, size: Number(disk.size) })),
    complete,
    ...(stopped && { stopped }),
    bytes,
    begin: momentJson(keyframes[0]!),
    end: { ...momentJson(end), hash: end.hash, exit: end.exit, why: end.why },
    stretches: stretches.length,
    keyframes: keyframes.length,
    events: eventsOf(stretches),
    marks: marks.length,
  };
}

/** A table with a heading; of a name that several marks have, each is numbered as it can be asked for. */
export function markLines(marks: readonly MarkView[]): string[] {
  const counts = new Map<string, number>();
  for (const { name } of marks) counts.set(name, (counts.get(name) ?? 0) + 1);
  const seen = new Map<string, number>();
  const rows = marks.map(({ at, time, position, kind, name }) => {
    const which = (seen.get(name) ?? 0) + 1;
    seen.set(name, which);
    const number = counts.get(name)! > 1 ? `#${which}` : '';
    return [formatCount(at), formatTime(time), formatPosition(position), kind, shown(name) + number];
  });
  return table([['step', 'guest time', 'position', 'kind', 'name'], ...rows], [0, 1]);
}

export function marksJson(marks: readonly MarkView[]): object[] {
  return marks.map(({ kind, name, ...moment }) => ({ ...momentJson(moment), kind, name }));
}

export function momentJson({ at, position, time }: Moment): object {
  return { step: Number(at), position: formatPosition(position), seconds: Number(time) / 1e9 };
}

/** Columns as wide as what is in them; those named are numbers, to the right. */
function table(rows: readonly (readonly string[])[], right: readonly number[]): string[] {
  const widths = rows[0]!.map((_, column) => rows.reduce((most, row) => Math.max(most, row[column]!.length), 0));
  return rows.map((row) =>
    row
      .map((cell, i) => (right.includes(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd(),
  );
}

function shown(text: string): string {
  return escapeGuestText(text, { limit: NAME });
}
