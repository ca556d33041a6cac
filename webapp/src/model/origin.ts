/** The origin of the whole flow in one line, with the words of `origin_sentence` in attributor/_cite/citations.py. */
import { showShare } from "./scale";
import type { Origin } from "./shares";
import type { View } from "./types";

/** The line below a list of shares. */
export function originSentence({ documents }: Pick<View, "documents">, origin: Origin): string {
  const prompt = showShare(origin.prompt);
  const parts = documents.length
    ? `${showShare(origin.documents)} of the whole flow came from the documents, ${prompt} from question and template`
    : `${prompt} of the whole flow came from the prompt`;
  const part = documents.length ? "documents'" : "prompt's";
  return `${parts}, ${showShare(origin.answer)} from the answer's own words. This is normal; shares above are of the ${part} part.`;
}
