/** Guest strings made safe to show on the host's terminal, in its logs and in error messages. */

// C0 and C1 controls, delete, invisible and direction-changing characters, line separators, and halves of surrogate pairs.
const UNSAFE =
  /[\p{Cc}\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\p{Cs}]/gu;

/**
 * Shows every character that could move a cursor, change a terminal's state, hide or reorder text, or begin a line as an escape
 * (`\n`, `\x1b`, `\u{202e}`). `multiline` leaves newlines and tabs as they are. What is left is cut after `limit` characters.
 */
export function escapeGuestText(text: string, options: { multiline?: boolean; limit?: number } = {}): string {
  const { multiline = false, limit = Number.POSITIVE_INFINITY } = options;
  // Not in the middle of a pair: its half would be escaped. What is cut off is not looked at.
  const cut = text.length > limit;
  const kept = cut ? text.slice(0, limit).replace(/[\ud800-\udbff]$/, '') : text;
  const escaped = kept.replace(UNSAFE, (character) => {
    if (character === '\n') return multiline ? character : '\\n';
    if (character === '\t') return multiline ? character : '\\t';
    if (character === '\r') return '\\r';
    const code = character.codePointAt(0)!;
    // A byte that is not UTF-8, as `decodeText` has it.
    if (code >= 0xdc80 && code <= 0xdcff) return `\\x${(code & 0xff).toString(16)}`;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
  return cut ? `${escaped}...` : escaped;
}
