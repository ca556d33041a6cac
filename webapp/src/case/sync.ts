/** Synchronizes the settings of a part of the page with its keys in the URL's hash, in both directions. */
import { effect } from "@preact/signals";
import { amend, format, place, type Query, route } from "../model/link";

const WAIT = 150; // ms: browsers reject address changes that follow each other too fast

/** Reads and writes the settings' keys of the query. Other keys stay unchanged. */
export interface Keys<S> {
  encode(settings: S): Record<string, string | undefined>;
  decode(query: Query): S;
}

/** Synchronize until the returned function is called or the address leaves this page. `read` may read signals. */
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
    if (format(to) !== home) return; // the address of another page, which will replace this one
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
