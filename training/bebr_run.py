"""One training of a binariser: its data, network and optimiser, epoch after epoch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..progress import progress
from .bebr_material import Material
from .bebr_options import BebrOptions
from .objectives import OBJECTIVES, contrastive, distil
from .pairs import NEIGHBOURS, batches, nearest
from .start import start_at_older, start_at_rotation
from .state import Progress, write_state

if TYPE_CHECKING:
    import torch

    from ..models.recurrent_binarisation import RecurrentBinariser, Shape

#: Held-out anchors and the vectors they are ranked among, when the codes' fidelity is measured.
_WATCHED, _AMONG, _DEPTH = 1000, 20_000, 10


class BebrTraining:
    """What `train_bebr` runs: everything that is drawn depends on the seed and the epoch only."""

    def __init__(self, material: Material, options: BebrOptions, shape: Shape) -> None:
        import torch

        from ..models.recurrent_binarisation import RecurrentBinarisation

        self.material, self.options = material, options
        self.cosine = material.similarity == "cosine"
        self.norm = 1.0 if self.cosine else float(np.linalg.norm(material.vectors, axis=1).mean()) or 1.0
        vectors = np.ascontiguousarray(material.vectors / np.float32(self.norm), np.float32)
        queries = None if material.queries is None else np.asarray(material.queries / self.norm, np.float32)
        order = np.random.default_rng(options.seed).permutation(len(vectors))
        held = max(16, min(_WATCHED, int(options.held_out * len(vectors))))
        watched, self.used = np.sort(order[:held]), np.sort(order[held:])
        self.documents = torch.from_numpy(vectors[self.used])
        self.older = self._older_codes()
        asked = torch.from_numpy(np.zeros((0, vectors.shape[1]), np.float32) if queries is None else queries)
        aside = 0 if queries is None else max(1, min(_WATCHED, int(options.held_out * len(queries))))
        self.anchors = torch.cat([self.documents, asked[aside:]])
        skip = np.concatenate([np.arange(len(self.used)), np.full(len(self.anchors) - len(self.used), -1)])
        wanted = min(NEIGHBOURS, len(self.used) - 1)
        self.neighbours = nearest(self.anchors.numpy(), self.documents.numpy(), wanted, skip)
        held_vectors = torch.from_numpy(vectors[watched])
        self._watch(
            self._moved(held_vectors, torch.Generator().manual_seed(options.seed)) if not aside else asked[:aside]
        )
        torch.manual_seed(options.seed)
        self.network = RecurrentBinarisation(shape)
        if options.start == "rotation":
            self._start(vectors[self.used])
        self.scale = torch.nn.Parameter(torch.zeros(()))
        self.optimiser = torch.optim.Adam([*self.network.parameters(), self.scale], lr=options.rate)

    def _start(self, mine: np.ndarray) -> None:
        """Near the older binariser where codes are to be compatible with it and it is linear, too; else at a rotation."""
        material, older = self.material, self.material.older
        if older is None or older.shape.hidden or material.its_vectors is None:
            start_at_rotation(self.network, mine, self.options.seed)
            return
        same = material.its_vectors is material.vectors
        theirs = mine if same else material.its_vectors[self.used] / np.float32(older.norm)
        start_at_older(self.network, older.network.float(), mine, theirs)

    # ---- the older binariser ----------------------------------------------------------------------------------------

    def _older_codes(self) -> torch.Tensor | None:
        """The older binariser's values of the documents in use."""
        import torch

        material = self.material
        if material.older is None or material.its_vectors is None:
            return None
        return torch.from_numpy(material.older.values(material.its_vectors[self.used]))

    # ---- epochs -----------------------------------------------------------------------------------------------------

    def epochs(self, out: Path, before: Progress | None) -> Progress:
        options = self.options
        now = before or Progress()
        if before:
            self._restore(before)
        else:
            self._judge(now, 0.0)
        with progress("training", options.epochs, "epochs") as advance:
            advance(now.epoch)
            while now.epoch < options.epochs and now.epoch - now.best_epoch < options.patience:
                now.epoch += 1
                loss = self._epoch(now.epoch)
                self._judge(now, loss)
                now.tensors |= self._state()
                write_state(out, now)
                advance()
        return now

    def _judge(self, now: Progress, loss: float) -> None:
        fidelity = self.fidelity()
        now.history.append({"epoch": now.epoch, "loss": round(loss, 6), "fidelity": round(fidelity, 6)})
        if fidelity > now.best:
            now.best, now.best_epoch = fidelity, now.epoch
            now.tensors |= {f"best.{name}": t.detach().clone() for name, t in self.network.state_dict().items()}

    def _epoch(self, number: int) -> float:
        import torch

        options = self.options
        rng = np.random.default_rng([options.seed, number])  # an epoch depends on nothing drawn before it
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        share = (number - 1) / options.epochs
        for group in self.optimiser.param_groups:
            group["lr"] = options.rate * (1 + np.cos(np.pi * share)) / 2
        total, count = 0.0, 0
        self.network.train()
        for seeds, rows in batches(self.neighbours, options.batch, options.per_seed, rng):
            loss = self._loss(seeds, rows, noise)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            total, count = total + float(loss.detach()), count + 1
        return total / max(1, count)

    def _loss(self, seeds: np.ndarray, rows: np.ndarray, noise: torch.Generator) -> torch.Tensor:
        import torch

        seeds = np.union1d(rows, seeds)
        anchors, documents = self.anchors[torch.from_numpy(seeds)], self.documents[torch.from_numpy(rows)]
        of_documents = torch.from_numpy(seeds < len(self.documents))
        moved = torch.where(of_documents[:, None], self._moved(anchors, noise), anchors)
        same = torch.from_numpy(seeds)[:, None] == torch.from_numpy(rows)[None]
        values = self.network(torch.cat([moved, documents]))
        mine, theirs = values[: len(moved)], values[len(moved) :]
        wanted = moved @ documents.T
        loss = self._objective(self._scores(mine, theirs), wanted, same)
        if self.older is not None:
            loss = loss + self._objective(self._scores(mine, self.older[torch.from_numpy(rows)]), wanted, same)
        return loss

    def _moved(self, anchors: torch.Tensor, noise: torch.Generator) -> torch.Tensor:
        """Anchors plus noise in a random direction, up to `noise` times as long as they, and as long as they were."""
        import torch
        from torch.nn import functional

        if not self.options.noise:
            return anchors
        length = anchors.norm(dim=1, keepdim=True)
        direction = functional.normalize(torch.randn(anchors.shape, generator=noise), dim=1)
        reach = self.options.noise * torch.rand(len(anchors), 1, generator=noise)
        return functional.normalize(anchors + reach * length * direction, dim=1) * length

    def _scores(self, queries: torch.Tensor, documents: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn import functional

        if self.cosine:
            queries, documents = functional.normalize(queries, dim=1), functional.normalize(documents, dim=1)
            return queries @ documents.T * torch.exp(self.scale)
        return queries @ documents.T * (torch.exp(self.scale) / self.network.shape.width)

    def _objective(self, scores: torch.Tensor, wanted: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
        temperature = self.options.temperature or OBJECTIVES[self.options.objective]
        if self.options.objective == "contrastive":
            return contrastive(scores, same, temperature)
        return distil(scores, wanted, same, temperature)

    # ---- measuring --------------------------------------------------------------------------------------------------

    def _watch(self, held: torch.Tensor) -> None:
        """Anchors that are not trained on, the rows they are ranked among, and their true nearest."""
        import torch

        rng = np.random.default_rng([self.options.seed, 0])
        among = np.sort(rng.permutation(len(self.used))[:_AMONG])
        self.asked, self.among = held, torch.from_numpy(among)
        self.truth = nearest(held.numpy(), self.documents[self.among].numpy(), min(_DEPTH, len(among)))

    def fidelity(self, made: RecurrentBinariser | None = None) -> float:
        """The share of the ten nearest documents of held-out anchors that are among the ten nearest by codes: the network's,
        or those of the binariser `made`."""
        import torch

        def values(vectors: torch.Tensor) -> torch.Tensor:
            if made is not None:
                return torch.from_numpy(made.values(vectors.numpy() * self.norm))
            return self.network(vectors)

        self.network.eval()
        with torch.no_grad():
            codes = values(self.documents[self.among]) if self.older is None else self.older[self.among]
            found = torch.topk(self._scores(values(self.asked), codes), self.truth.shape[1], dim=1).indices.numpy()
        hits = [len(np.intersect1d(mine, true)) for mine, true in zip(found, self.truth, strict=True)]
        return float(np.mean(hits)) / self.truth.shape[1]

    def finished(self, done: Progress) -> RecurrentBinariser:
        """The binariser of the best epoch."""
        from ..models.code_refinement import fit_refinement
        from ..models.recurrent_binarisation import RecurrentBinariser

        best = {name.removeprefix("best."): t for name, t in done.tensors.items() if name.startswith("best.")}
        self.network.load_state_dict(best)
        made = RecurrentBinariser(self.network, norm=self.norm)
        if not self.options.refine:
            return made
        documents = self.documents.numpy()
        values = made.values(documents * self.norm) if self.older is None else self.older.numpy()
        planes, sweeps = self.network.shape.planes, self.options.refine
        refinement = fit_refinement(values, documents, planes, sweeps, again=self.older is None)
        return RecurrentBinariser(self.network, norm=self.norm, refinement=refinement)

    # ---- what a checkpoint holds ------------------------------------------------------------------------------------

    def _parameters(self) -> dict[str, torch.Tensor]:
        return {**dict(self.network.named_parameters()), "scale": self.scale}

    def _state(self) -> dict[str, torch.Tensor]:
        tensors = {f"network.{name}": t.detach().clone() for name, t in self.network.state_dict().items()}
        tensors["scale"] = self.scale.detach().clone()
        for name, parameter in self._parameters().items():
            moments = self.optimiser.state[parameter]
            tensors |= {f"adam.{name}.{part}": value.detach().clone() for part, value in moments.items()}
        return tensors

    def _restore(self, before: Progress) -> None:
        tensors = before.tensors
        weights = {n.removeprefix("network."): t for n, t in tensors.items() if n.startswith("network.")}
        self.network.load_state_dict(weights)
        self.scale.data.copy_(tensors["scale"])
        for name, parameter in self._parameters().items():
            prefix = f"adam.{name}."
            moments = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            self.optimiser.state[parameter] = moments
