/** Saves files through the browser. */

/** A file name that is valid on every file system: letters, digits, dots and dashes. */
export function fileName(title: string, ending: string): string {
  const plain = title
    .normalize("NFKD")
    .replace(/[^\w.-]+/g, "-")
    .replace(/^[-.]+|[-.]+$/g, "")
    .slice(0, 60);
  return `${plain || "attributor"}.${ending}`;
}

/** Let the browser download a URL. The content is never in memory as a whole. */
export function saveFrom(url: string, name: string): void {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

/** Save bytes or text as a file. */
export function save(name: string, content: BlobPart, type: string): void {
  const url = URL.createObjectURL(new Blob([content], { type }));
  saveFrom(url, name);
  // Chromium reads the blob after click() returns.
  setTimeout(() => URL.revokeObjectURL(url), 30_000);
}
