import { Component } from "preact";
import type { ComponentChildren } from "preact";
import { describe, Failure } from "./messages";

interface Props {
  children: ComponentChildren;
  /** A change of this value renders a failed part again. */
  of: string;
}

/** Shows an error in place of a part that fails to render. The rest of the page stays. */
export class Boundary extends Component<Props, { failed: unknown }> {
  override state = { failed: null as unknown };

  static override getDerivedStateFromError(failed: unknown): { failed: unknown } {
    return { failed };
  }

  override componentDidUpdate(before: Props): void {
    if (before.of !== this.props.of && this.state.failed !== null) this.setState({ failed: null });
  }

  override render(): ComponentChildren {
    if (this.state.failed === null) return this.props.children;
    const { text, details } = describe(this.state.failed);
    return (
      <div class="ui-boundary card" role="alert">
        <Failure text={text} details={details} />
        <a class="button" href="#/">
          Go to the first page
        </a>
      </div>
    );
  }
}
