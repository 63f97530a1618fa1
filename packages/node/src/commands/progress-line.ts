/** How long work is getting on: a line that is drawn again in place on a terminal, and a line now and then where there is none. */

import type { LiveStream } from './live-tree.ts';
import { safeText } from './say.ts';

const REDRAW_MS = 100;
const LINE_MS = 5000;

export class ProgressLine implements Disposable {
  private readonly stream: LiveStream;
  private readonly now: () => number;
  private drawnAt: number;
  private drawn = false;

  /** `now`: the host's time in ms. What is done before a line is due says nothing. */
  constructor(stream: LiveStream, now: () => number = () => performance.now()) {
    this.stream = stream;
    this.now = now;
    this.drawnAt = now();
  }

  /** To be called as often as one likes; the text is asked for when it is shown. */
  update(text: () => string): void {
    const now = this.now();
    const { isTTY, columns } = this.stream;
    if (now - this.drawnAt < (isTTY ? REDRAW_MS : LINE_MS)) return;
    this.drawnAt = now;
    if (!isTTY) {
      this.stream.write(`${safeText(text())}\n`);
      return;
    }
    // The last column is left free: a line that fills it may wrap.
    this.stream.write(`\r${safeText(text()).slice(0, Math.max(20, (columns || 80) - 1))}\x1b[K`);
    this.drawn = true;
  }

  /** Takes the line away, for something else to be written there. */
  hide(): void {
    if (this.drawn) this.stream.write('\r\x1b[K');
    this.drawn = false;
  }

  [Symbol.dispose](): void {
    this.hide();
  }
}
