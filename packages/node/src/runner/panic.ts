/** Finds a kernel's panic in what the machine prints. */

import { escapeGuestText } from '@braid/core/text/escape.ts';

const PANIC = 'Kernel panic - not syncing';
const MESSAGE_LIMIT = 300;

export class PanicWatch {
  /** What the kernel said of its panic. */
  message: string | undefined;
  private recent = '';

  /** Takes console output, a byte a character; true when it completes the message. */
  see(text: string): boolean {
    this.recent += text;
    const at = this.recent.indexOf(PANIC);
    let found = false;
    if (at >= 0 && this.message === undefined) {
      const end = this.recent.indexOf('\n', at);
      if (end < 0 && this.recent.length - at < MESSAGE_LIMIT) return false;
      const line = this.recent.slice(at + PANIC.length, end < 0 ? undefined : end);
      this.message = escapeGuestText(line.replace(/^:?\s*/, '').trimEnd(), { limit: MESSAGE_LIMIT });
      found = true;
    }
    if (this.message !== undefined || at < 0) this.recent = this.recent.slice(-PANIC.length);
    return found;
  }
}
