/** Keeps what a part of the page shows and its keys of the URL's hash the same, in both directions. */
import { effect } from "@preact/signals";
import { amend, format, place, type Query, route } from "../model/link";

const WAIT = 150; // ms: browsers refuse hundreds of addresses in a row

/** Which keys of the query stand for settings; the others are left alone. */
export interface Keys<S> {
  encode(settings: S): Record<string, string | undefined>;
  decode(query: Query): S;
}

/** Follow both until the returned function is called, or another page has the address. `read` may read signals. */
export function followLink<S>({ encode, decode }: Keys<S>, read: () => S, apply: (settings: S) => void): () => void {
  const home = format(route.peek());
  let written = JSON.stringify(encode(read()));
  let timer: ReturnType<typeof setTimeout> | undefined;
  const out = effect(() => {
    const keys = encode(read());
    const text = JSON.stringify(keys);
    clearTimeout(timer);
    if (text === written) return;
    timer = setTimeout(() => {
      if (format(route.peek()) !== home) return;
      written = text;
      amend(keys);
    }, WAIT);
  });
  const into = effect(() => {
    const { query, route: to } = place.value;
    if (format(to) !== home) return; // another page's address; this page is about to go
    const settings = decode(query);
    const text = JSON.stringify(encode(settings));
    if (text === written) return;
    written = text;
    clearTimeout(timer);
    apply(settings);
  });
  return () => {
    clearTimeout(timer);
    out();
    into();
  };
}
