/** Keeps the settings of a case and the URL's hash the same, in both directions. */
import { effect } from "@preact/signals";
import { amend, decodeSettings, encodeSettings, format, place, route, type Settings } from "../model/link";

const WAIT = 150; // ms: browsers refuse hundreds of addresses in a row

/** Follow both until the returned function is called, or another page has the address. `read` may read signals. */
export function followLink(read: () => Settings, apply: (settings: Settings) => void): () => void {
  const home = format(route.peek());
  let written = JSON.stringify(encodeSettings(read()));
  let timer: ReturnType<typeof setTimeout> | undefined;
  const out = effect(() => {
    const keys = encodeSettings(read());
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
    const settings = decodeSettings(query);
    const text = JSON.stringify(encodeSettings(settings));
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
