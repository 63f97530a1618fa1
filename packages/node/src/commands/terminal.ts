/**
 * The host's terminal while it belongs to the guest: raw keys go to the guest, but for Ctrl-], which talks to Braid.
 *
 * Whatever happens, the terminal is given back as it was: at the end, at signals, at exceptions and at `process.exit`.
 */

import { spawnSync } from 'node:child_process';
import { GuestOutput } from './guest-output.ts';
import { safeText } from './say.ts';

const ESCAPE_KEY = 0x1d;

const MENU = [
  'Braid: Ctrl-] and then',
  '  q        leave: the machine ends as it stands',
  '  p        power the guest off',
  '  h or ?   this help',
  '  Ctrl-]   send Ctrl-] to the guest',
];

interface Keys {
  /** Keys for the guest. */
  type(bytes: Uint8Array): void;
  leave(): void;
  /** There is no terminal any more. */
  lost(): void;
  powerOff(): void;
  resized(columns: number, rows: number): void;
}

export class Terminal {
  private readonly keys: Keys;
  private open = false;
  private escaped = false;
  private readonly output = new GuestOutput();

  constructor(keys: Keys) {
    this.keys = keys;
  }

  /** Takes the terminal. */
  start(): void {
    const { stdin, stdout } = process;
    this.open = true;
    process.on('exit', this.restore);
    stdin.setRawMode(true);
    // Raw mode here still turns a line feed into two characters; to the guest's programs it is a movement of the cursor.
    spawnSync('stty', ['-onlcr'], { stdio: ['inherit', 'ignore', 'ignore'] });
    stdin.on('data', this.read);
    // It has gone, whether the system says so by an end or by an error.
    stdin.on('end', this.keys.lost).on('error', this.keys.lost);
    stdin.resume();
    stdout.on('resize', this.resized);
    this.resized();
  }

  /** Gives the terminal back; may be called at any time, any number of times. */
  readonly restore = (): void => {
    if (!this.open) return;
    this.open = false;
    const { stdin, stdout } = process;
    stdin.off('data', this.read);
    stdout.off('resize', this.resized);
    try {
      stdin.setRawMode(false);
      stdout.write(this.output.undo);
    } catch {
      // The terminal has gone.
    }
    stdin.pause();
    process.off('exit', this.restore);
  };

  /** Shows the guest's output; resolves when the terminal has taken it. */
  show(bytes: Uint8Array): Promise<void> {
    this.output.note(bytes);
    return new Promise((resolve) => {
      process.stdout.write(bytes, () => resolve());
    });
  }

  /** A line of ours between the guest's lines. */
  say(lines: readonly string[]): void {
    process.stderr.write(`\r\n${lines.map((line) => `${safeText(line)}\r\n`).join('')}`);
  }

  private readonly resized = (): void => {
    const { columns, rows } = process.stdout;
    if (columns > 0 && rows > 0) this.keys.resized(columns, rows);
  };

  private readonly read = (bytes: Uint8Array): void => {
    let from = 0;
    for (let i = 0; i < bytes.length; i++) {
      if (this.escaped) {
        this.escaped = false;
        // A second Ctrl-] is for the guest: it stays where it is.
        from = bytes[i] === ESCAPE_KEY ? i : i + 1;
        this.command(bytes[i]!);
      } else if (bytes[i] === ESCAPE_KEY) {
        if (i > from) this.keys.type(bytes.slice(from, i));
        from = i + 1;
        this.escaped = true;
      }
    }
    if (from < bytes.length) this.keys.type(bytes.slice(from));
  };

  private command(key: number): void {
    switch (String.fromCharCode(key).toLowerCase()) {
      case 'q':
        return this.keys.leave();
      case 'p':
        return this.keys.powerOff();
      case 'h':
      case '?':
        return this.say(MENU);
    }
  }
}
