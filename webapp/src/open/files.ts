/** Local files from a picker or a drop, with their folders. */

import endings from "./endings.json";

/** A file and its path, "/" between folders; only its name if no folder was chosen. */
export interface Picked {
  path: string;
  file: File;
}

const MOST = 20_000; // maximum number of files, in case a wrong folder is dropped
const DEEPEST = 5;
/** The endings of the files that can be opened, by kind; a test compares them with attributor/web/explore/file_kinds.py. */
export const ENDINGS: Record<"run" | "flow" | "list", readonly string[]> = endings;
/** All endings, each once. Files with other endings in folders are skipped without a message. */
export const ALL_ENDINGS: readonly string[] = [...new Set(Object.values(ENDINGS).flat())];

/** The files of a file input. */
export function ofInput(files: FileList | null): Picked[] {
  const all = [...(files ?? [])].slice(0, MOST);
  return all
    .map((file) => ({ path: file.webkitRelativePath || file.name, file }))
    .filter(({ path }) => !path.includes("/") || wanted(path));
}

/** The dropped files, including those in dropped folders. */
export async function ofDrop(data: DataTransfer): Promise<Picked[]> {
  // Read the entries before the first await: the list is empty afterwards.
  const entries = [...data.items].filter((item) => item.kind === "file").map((item) => [item.webkitGetAsEntry?.() ?? null, item.getAsFile()] as const);
  const found: Picked[] = [];
  for (const [entry, file] of entries) {
    if (entry?.isDirectory) await walk(entry as FileSystemDirectoryEntry, entry.name, found, 0);
    else if (file !== null) found.push({ path: file.name, file });
  }
  return found;
}

async function walk(folder: FileSystemDirectoryEntry, path: string, found: Picked[], depth: number): Promise<void> {
  const reader = folder.createReader();
  for (;;) {
    // Browsers return a hundred entries per call, and none at the end.
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return;
    for (const entry of entries) {
      if (found.length >= MOST) return;
      const inner = `${path}/${entry.name}`;
      if (entry.isDirectory && depth < DEEPEST) await walk(entry as FileSystemDirectoryEntry, inner, found, depth + 1);
      else if (entry.isFile && wanted(inner)) found.push({ path: inner, file: await fileOf(entry as FileSystemFileEntry) });
    }
  }
}

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

/** True for a file of a folder that is read. Hidden files, such as those of file managers, are skipped. */
function wanted(path: string): boolean {
  const name = path.slice(path.lastIndexOf("/") + 1);
  return ALL_ENDINGS.some((ending) => name.toLowerCase().endsWith(ending)) && !name.startsWith(".");
}
