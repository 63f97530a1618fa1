/**
 * Text of the guest's that patterns are looked for in, as it comes. It comes when the machine's thread has a piece of it, which depends on
 * the host's time; it is looked at where a slice ends. So what is found, and where, does not depend on that.
 */

import { TextStream } from '@braid/core/text/guest-text.ts';

/** Characters that are looked at again, at most: twice this many are kept until the next look. */
const KEPT = 32 * 1024;

export class SearchedText {
  private readonly stream = new TextStream();
  private readonly kept: number;
  private text = '';
  private fresh = '';

  /** `kept`: how many characters of a match may have come before the last look. */
  constructor(kept: number = KEPT) {
    this.kept = kept;
  }

  see(bytes: Uint8Array): void {
    this.fresh += this.stream.push(bytes);
  }

  /** Has `find` look at the text, if there is more since the last look: `before` characters of it were there then. */
  look<T>(find: (text: string, before: number) => T): T | undefined {
    if (this.fresh === '') return undefined;
    const before = this.text.length;
    this.text += this.fresh;
    this.fresh = '';
    const found = find(this.text, before);
    if (this.text.length > 2 * this.kept) this.text = this.text.slice(-this.kept);
    return found;
  }
}

/** A pattern in such a text. */
export class TextWatch {
  private readonly pattern: string | RegExp;
  private readonly searched = new SearchedText();

  constructor(pattern: string | RegExp) {
    this.pattern = pattern;
  }

  see(bytes: Uint8Array): void {
    this.searched.see(bytes);
  }

  /** What of the text matches by now; to be asked where a slice ends. */
  match(): string | undefined {
    const { pattern } = this;
    return this.searched.look((text) => {
      if (typeof pattern === 'string') return text.includes(pattern) ? pattern : undefined;
      // `search` begins at the text's beginning, whatever the expression's flags are.
      return text.search(pattern) < 0 ? undefined : (text.match(pattern)?.[0] ?? '');
    });
  }
}
