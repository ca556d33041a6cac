import { defineConfig } from "vitest/config";

const SERVER = "http://localhost:3000";

/** The modules that src/main.tsx imports: the entry point, a case, sharing. */
const inApp = /\/src\/(main|api\/|case\/|canvas\/minimap|model\/(?!flow|segments)|share\/|ui\/)|\/node_modules\/(preact|@preact)\/|preload-helper/;

// File names without hashes: the bundle is committed, and an exported page contains app.js and app.css.
export default defineConfig({
  base: "/static/",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: process.env.WEBAPP_OUT ?? "../attributor/web/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        entryFileNames: "entry.js", // never written: the group below contains it
        chunkFileNames: (chunk) => `${chunk.name.toLowerCase()}.js`,
        assetFileNames: (asset) => asset.names[0].toLowerCase(),
        // app.js has all code of a case, because an exported page has no other file.
        advancedChunks: { groups: [{ name: "app", test: inApp }] },
      },
    },
  },
  // The server accepts requests of its own pages only, so the proxy sends its origin.
  server: { proxy: { "/api": { target: SERVER, changeOrigin: true, headers: { origin: SERVER } } } },
  test: { environment: "happy-dom", include: ["tests/**/*.test.{ts,tsx}"] },
});
