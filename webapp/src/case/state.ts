/** The state of a case page, as signals. Components in its slots (`tools`, `extra`) get it from `useCase()`:
 *
 *     const it = useCase();                    // in any component inside of CasePage; its view is loaded
 *     it.view.value, it.variant.value.source   // the numbers that are shown now, and their source
 *     it.rows.value                            // Span of the shown rows: preview, else pinned, else all
 *     it.pinned.value                          // Span | null (the whole answer); in the link
 *     it.selected.value, it.units.value        // Piece | null, and its units as Span | null; in the link
 *     it.preview.value = {start, stop}         // rows under the pointer in another view; null ends the preview
 *     it.pin(span | null)                      // pin rows         it.select(piece | null, {reveal: true}): and scroll to it
 *     it.hovered.value = piece                 // input under the pointer in another view; null ends it
 *     it.by, it.scale, it.normalise, it.hideSink, it.k                                         // signals; in the link
 *     it.row.value, it.shares.value            // the scores that have arrived (row.rows names their rows), and their
 *                                              // shares by piece; they follow `rows` after one fetch
 *     it.received.value                        // (o) the share that each row took from the hovered or selected input;
 *                                              // a part of the whole row if the input has no share; null without an input
 *     it.coming.value                          // name of the chosen method while it is loading; null otherwise
 *
 * Read signals inside of components or effects. Write only the signals named here. The URL's hash holds all but previews.
 */
import { batch, computed, type ReadonlySignal, type Signal, signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import { decodeSettings, encodeSettings, type Normalise, type Query, type Settings } from "../model/link";
import type { Scale } from "../model/scale";
import { hasSink, type Piece, type Row, type Shares, sharesBy, toRow } from "../model/shares";
import { type By, type Case, type Span, UserError, type Variant, type View } from "../model/types";
import { fit, same, usual, whole } from "./fit";
import { type Heat, heatOf } from "./heat";
import { type Layout, layOut } from "./layout";
import { followInput } from "./received";
import { followRows, type Loaded } from "./follow";
import { RowCache } from "./rows";
import { followLink } from "./sync";

export class CaseState {
  readonly case: Case;
  readonly pinned: Signal<Span | null>;
  readonly preview = signal<Span | null>(null);
  readonly selected: Signal<Piece | null>;
  readonly by: Signal<By>;
  readonly scale: Signal<Scale>;
  readonly normalise: Signal<Normalise>;
  readonly hideSink: Signal<boolean>;
  readonly k: Signal<number>;
  /** The sentence to show if the numbers could not be loaded; null without an error. */
  readonly error = signal<string | null>(null);
  /** The input under the pointer. */
  readonly hovered = signal<Piece | null>(null);
  /** Counts the requests to scroll to the selected piece. */
  readonly reveal = signal(0);
  readonly received = signal<Float32Array | null>(null);
  readonly coming = signal<string | null>(null);

  readonly variant: ReadonlySignal<Variant>;
  readonly view: ReadonlySignal<View>;
  readonly layout: ReadonlySignal<Layout>;
  readonly rows: ReadonlySignal<Span>;
  readonly units: ReadonlySignal<Span | null>;
  readonly row: ReadonlySignal<Row>;
  readonly shares: ReadonlySignal<Shares>;
  /** The shares by document, for headings. */
  readonly documentShares: ReadonlySignal<Shares>;
  /** The colour of every unit under the current settings. */
  readonly heat: ReadonlySignal<Heat>;
  /** The row of the whole answer, and of the pinned rows once it has arrived: references for the colours. */
  readonly wholeRow: ReadonlySignal<Row>;
  readonly pinnedRow = signal<Row | null>(null);

  private readonly loaded: Signal<Loaded>;
  private readonly arrived: Signal<Row>;
  private readonly stops: (() => void)[] = [];
  private turn = 0; // counts choices of a variant: a load of an older choice is dropped
  private wanted: string | null; // the method of the link, even if no variant has that name

  /** Load a case with the settings of its link. Rejects with a UserError if it cannot be read. */
  static async open(it: Case, query: Query): Promise<CaseState> {
    const settings = decodeSettings(query);
    const first = it.variants[0];
    if (!first) throw new UserError("This case holds no scores: there is nothing to show.");
    const variant = it.variants.find((v) => v.name === settings.method) ?? first;
    return new CaseState(it, await load(variant), settings);
  }

  private constructor(it: Case, loaded: Loaded, settings: Settings) {
    const { view } = loaded;
    this.case = it;
    this.loaded = signal(loaded);
    this.wanted = settings.method;
    const clean = fit(settings, view);
    this.by = signal(clean.by);
    this.pinned = signal(clean.rows);
    this.selected = signal(clean.piece);
    this.scale = signal(settings.scale);
    this.normalise = signal(settings.normalise);
    this.hideSink = signal(settings.hideSink);
    this.k = signal(settings.k);

    this.variant = computed(() => this.loaded.value.variant);
    this.view = computed(() => this.loaded.value.view);
    this.layout = computed(() => this.loaded.value.layout);
    this.wholeRow = computed(() => toRow(this.view.value, whole(this.view.value), this.view.value.total));
    this.rows = computed(() => this.preview.value ?? this.pinned.value ?? whole(this.view.value));
    this.units = computed(() => (this.selected.value ? this.layout.value.unitsOf(this.selected.value) : null));
    this.arrived = signal(this.wholeRow.peek());
    this.row = computed(() => this.arrived.value);
    const sharesOf = (row: Row): Shares => sharesBy(this.view.value, row, this.by.value, this.hideSink.value);
    this.shares = computed(() => sharesOf(this.row.value));
    this.documentShares = computed(() => sharesBy(this.view.value, this.row.value, "document", this.hideSink.value));
    const reference = computed(() => {
      if (this.normalise.value === "row") return this.shares.value;
      return sharesOf((this.normalise.value === "selection" && this.pinned.value && this.pinnedRow.value) || this.wholeRow.value);
    });
    this.heat = computed(() => heatOf(this.view.value, this.row.value, this.shares.value, reference.value, this.scale.value));
    const source = computed(() => this.variant.value.source);
    const hidden = computed(() => this.hideSink.value && hasSink(this.view.value));
    const hovered = computed(() => (this.hovered.value ? this.layout.value.unitsOf(this.hovered.value) : null));
    this.stops.push(
      followRows(
        { loaded: this.loaded, rows: this.rows, preview: this.preview },
        (row) => this.arrive(row),
        (reason) => (this.error.value = reason === null ? null : sentence(reason)),
      ),
      followInput({ source, view: this.view, hovered, selected: this.units, hidden }, this.received, (reason) => (this.error.value = sentence(reason))),
      followLink(
        { encode: encodeSettings, decode: decodeSettings },
        () => this.settings(),
        (read) => this.apply(read),
      ),
    );
  }

  /** Pin these rows. Null or all rows mean the whole answer. */
  pin(rows: Span | null): void {
    const all = this.view.peek().answer.length;
    batch(() => {
      this.pinned.value = rows && rows.stop - rows.start < all ? rows : null;
      this.preview.value = null;
    });
  }

  /** Select an input; null selects none. */
  select(piece: Piece | null, { reveal = false }: { reveal?: boolean } = {}): void {
    batch(() => {
      this.selected.value = piece;
      if (piece && reveal) this.reveal.value++;
    });
  }

  /** Show another variant. The pinned rows and the selected piece stay if the variant has them. */
  use(variant: Variant, settings?: Settings): void {
    const turn = ++this.turn;
    this.coming.value = variant === this.variant.peek() ? null : variant.name;
    const show = (loaded: Loaded): void => {
      if (turn !== this.turn) return;
      this.coming.value = null;
      const method = variant === this.case.variants[0] ? null : variant.name;
      if (!settings || loaded !== this.loaded.peek()) this.error.value = null;
      this.show(loaded, settings ?? { ...this.settings(), method });
    };
    if (variant === this.variant.peek()) show(this.loaded.peek());
    else
      load(variant).then(show, (error: unknown) => {
        if (turn !== this.turn) return;
        this.coming.value = null;
        this.error.value = sentence(error);
      });
  }

  /** The settings that a link to this picture holds. */
  settings(): Settings {
    return {
      by: this.by.value === usual(this.loaded.value.view) ? null : this.by.value,
      rows: this.pinned.value,
      piece: this.selected.value,
      method: this.wanted,
      normalise: this.normalise.value,
      scale: this.scale.value,
      hideSink: this.hideSink.value,
      k: this.k.value,
    };
  }

  /** Stop the effects on signals and on the address. */
  dispose(): void {
    for (const stop of this.stops) stop();
    this.turn++;
  }

  private arrive(row: Row): void {
    batch(() => {
      if (same(row.rows, this.pinned.peek())) this.pinnedRow.value = row;
      if (same(row.rows, this.rows.peek())) this.arrived.value = row;
    });
  }

  private apply(settings: Settings): void {
    const variant = this.case.variants.find((v) => v.name === settings.method) ?? this.case.variants[0]!;
    this.use(variant, settings);
  }

  private show(loaded: Loaded, settings: Settings): void {
    const clean = fit(settings, loaded.view);
    batch(() => {
      if (loaded !== this.loaded.peek()) {
        this.loaded.value = loaded;
        this.preview.value = this.hovered.value = this.pinnedRow.value = null;
        this.arrived.value = this.wholeRow.value;
      }
      this.wanted = settings.method;
      this.by.value = clean.by;
      this.pinned.value = clean.rows;
      this.selected.value = clean.piece;
      this.normalise.value = settings.normalise;
      this.scale.value = settings.scale;
      this.hideSink.value = settings.hideSink;
      this.k.value = settings.k;
    });
  }
}

const Context = createContext<CaseState | null>(null);
export const CaseProvider = Context.Provider;

/** The state of the case page around the component. */
export function useCase(): CaseState {
  const state = useContext(Context);
  if (!state) throw new Error("useCase() outside of a CasePage");
  return state;
}

async function load(variant: Variant): Promise<Loaded> {
  const view = await variant.source.view();
  return { variant, view, layout: layOut(view), cache: new RowCache() };
}

function sentence(error: unknown): string {
  return error instanceof UserError ? error.message : `The scores could not be read: ${error instanceof Error ? error.message : String(error)}`;
}
