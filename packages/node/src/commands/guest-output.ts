/** What a guest has done to the host's terminal by what it wrote there, and how to make up for it. */

/** Modes that guests set and that a shell on the host would suffer from, by what sets them and what undoes them. */
const MODES: readonly (readonly [RegExp, string])[] = [
  [/\x1b\[\?(?:1049|1047|47)h/, '\x1b[?1049l'],
  [/\x1b\[\?25l/, '\x1b[?25h'],
  [/\x1b\[\?(?:9|100[0-6]|1015)h/, '\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l'],
  [/\x1b\[\?2004h/, '\x1b[?2004l'],
  [/\x1b\[\?1h/, '\x1b[?1l'],
  [/\x1b\[[0-9;]*m/, '\x1b[m'],
];

export class GuestOutput {
  private readonly modes = new Set<string>();
  private lastByte = 0x0a;

  /** To be told of all that is written. A sequence that is cut in two by the end of a piece is missed; such modes are set again soon. */
  note(bytes: Uint8Array): void {
    if (bytes.length > 0) this.lastByte = bytes[bytes.length - 1]!;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
    if (text.includes('\x1b')) for (const [set, unset] of MODES) if (set.test(text)) this.modes.add(unset);
  }

  /** Whether it ended with a whole line. */
  get atLineStart(): boolean {
    return this.lastByte === 0x0a;
  }

  /** Gives the terminal back, and begins a line. */
  get undo(): string {
    return [...this.modes].join('') + (this.atLineStart ? '' : '\r\n');
  }
}
