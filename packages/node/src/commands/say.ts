/**
 * What the command says in its own words, on stdout and stderr: the last place before a terminal. Messages, tables and JSON have names
 * and texts from outside in them, of guests, files and agents. Whatever they are, no terminal acts on them, and no line of ours is forged.
 *
 * Only a guest's own output that its user asked for goes by: it is written as bytes.
 */

import { escapeGuestText } from '@braid/core/text/escape.ts';

/** Colours and weights, as our own pictures have them. Names in pictures are escaped before. */
const STYLE = /(\x1b\[[0-9;]{0,16}m)/;
/** What JSON may have in its texts and a terminal may act on. */
const UNSAFE_IN_JSON = /[\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** Text of several lines, safe for a terminal. */
export function safeText(text: string): string {
  return escapeGuestText(text, { multiline: true });
}

/** The same, where what we have coloured stays coloured. */
export function safeStyledText(text: string): string {
  return text
    .split(STYLE)
    .map((part, n) => (n % 2 === 1 ? part : safeText(part)))
    .join('');
}

/** A value as one line of JSON, safe for a terminal. */
export function safeJson(value: unknown): string {
  return JSON.stringify(value).replace(
    UNSAFE_IN_JSON,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** A message for the user, on stderr: `braid: ` and lines that are told from ours, which begin so, by an indent. */
export function tell(message: string): void {
  process.stderr.write(`${messageText(message)}\n`);
}

/** A message as `tell` shows it. */
export function messageText(message: string): string {
  return `braid: ${safeText(message).replaceAll('\n', '\n  ')}`;
}

/** Lines on stderr that are no message. */
export function note(text: string): void {
  process.stderr.write(`${safeText(text)}\n`);
}

/** A line of a result, on stdout. */
export function print(line: string): void {
  process.stdout.write(`${safeStyledText(line)}\n`);
}

/** A result as JSON, on stdout. */
export function printJson(value: unknown): void {
  process.stdout.write(`${safeJson(value)}\n`);
}
