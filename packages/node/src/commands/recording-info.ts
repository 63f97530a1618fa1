/** `braid info` and `braid marks`: what is in a recording. Nothing is run. */

import type { Recording } from '@braid/core/timeline/recording/reader.ts';
import { openRecording } from '../replay/recording-file.ts';
import { infoJson, infoLines, markLines, marksJson } from './recording-text.ts';
import { print, safeJson, tell } from './say.ts';

export interface JsonFlag {
  readonly json?: boolean;
}

export function info(path: string, { json }: JsonFlag): void {
  told(path, (recording) => (json ? [safeJson(infoJson(recording))] : infoLines(recording)));
}

export function marks(path: string, { json }: JsonFlag): void {
  told(path, ({ marks }) => {
    if (json) return [safeJson(marksJson(marks))];
    if (marks.length > 0) return markLines(marks);
    tell('the recording has no marks');
    return [];
  });
}

function told(path: string, lines: (recording: Recording) => readonly string[]): void {
  const { recording, close } = openRecording(path);
  try {
    for (const line of lines(recording)) print(`${line}`);
  } finally {
    close();
  }
}
