"""A simulated hub: the errors of its client, and the files that it would download."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub

from attributor._models import load

SHA = "1234abcd"


class Hub:
    """Serve one folder as the model `org/tiny` through the client's own functions, into its cache."""

    def __init__(self, folder: Path, cache: Path, monkeypatch, parameters: dict[str, int] | None = None) -> None:
        self.folder, self.cache, self.parameters = folder, cache, parameters
        self.fetched: list[str] = []
        self.error: Exception | None = None
        self.during = lambda name: None
        monkeypatch.setattr(load, "_hub_reachable", lambda: True)
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda _, *args, **kwargs: self._info(*args, **kwargs))
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", self._download)

    def _info(self, name, *, revision=None, files_metadata=False, timeout=None):
        assert files_metadata
        if self.error is not None:
            raise self.error
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        return SimpleNamespace(
            siblings=[
                SimpleNamespace(rfilename=str(path.relative_to(self.folder)), size=path.stat().st_size)
                for path in files
            ],
            safetensors=SimpleNamespace(parameters=self.parameters) if self.parameters else None,
        )

    def _download(self, name, filename, *, revision=None, tqdm_class=None):
        size = (self.folder / filename).stat().st_size
        with tqdm_class(total=size, initial=0, desc=filename, unit="B", disable=None, name="x") as bar:
            for part in (size // 2, size - size // 2):
                self.during(filename)
                bar.update(part)
        repository = self.cache / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(SHA)
        target = repository / "snapshots" / SHA / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.folder / filename, target)
        self.fetched.append(filename)
        return str(target)
