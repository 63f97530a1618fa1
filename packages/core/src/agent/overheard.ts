/** What programs of the guest agent write, for whoever listens to the agent's port without a client of his own: a replay. */

import { decodeBase64 } from './base64.ts';
import { LINE_LIMIT, LineBuffer } from './line-buffer.ts';
import { asObject, member, parseLine, textOf } from './messages.ts';

const NEWLINE = 10;

export class OverheardPrograms {
  private readonly line = new LineBuffer();
  private readonly heard: (stream: 'stdout' | 'stderr', bytes: Uint8Array) => void;

  constructor(heard: (stream: 'stdout' | 'stderr', bytes: Uint8Array) => void) {
    this.heard = heard;
  }

  /** The guest writes to the port. What is no output of a program is passed over. */
  receive(bytes: Uint8Array): void {
    let from = 0;
    for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, from)) {
      this.line.append(bytes.subarray(from, end), LINE_LIMIT);
      const { line } = this.line.take();
      if (line) this.see(line);
      from = end + 1;
    }
    this.line.append(bytes.subarray(from), LINE_LIMIT);
  }

  /** What comes next is of another moment. */
  reset(): void {
    this.line.reset();
  }

  private see(line: Uint8Array): void {
    const message = parseLine(line);
    if (!message || member(message, 'event') !== 'braid-exec-output') return;
    const data = asObject(member(message, 'data'));
    const stream = textOf(data, 'stream');
    const bytes = decodeBase64(textOf(data, 'data') ?? '!');
    if (bytes && (stream === 'stdout' || stream === 'stderr')) this.heard(stream, bytes);
  }
}
