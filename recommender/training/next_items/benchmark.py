"""`recommender benchmark sequences`: one next-item ranker on one file of events, judged by leave-one-out."""

import json
from dataclasses import dataclass, replace
from typing import Any

from recommender.engine.provenance import provenance
from recommender.engine.torchrun import is_first
from recommender.errors import SettingsError
from recommender.evaluation.cold_items import cold_split
from recommender.evaluation.means import mean_interval95
from recommender.evaluation.readings import log_reading
from recommender.evaluation.sequence_counts import sequence_counts
from recommender.sequences import Sequences
from recommender.storage.manifest import write_text
from recommender.training.next_items.fitting import (
    JudgedFit,
    TrainOn,
    fit_and_judge,
    judge_cold_items,
)
from recommender.training.next_items.keep import fit_and_keep
from recommender.training.next_items.outputs import Outputs
from recommender.training.next_items.request import FitRequest
from recommender.training.next_items.tune import search_hyperparameters

PROTOCOL = "leave-one-out, full ranking over unseen items, ties against the ranker, every user of three events and more"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One ranker, judged on one file of events.

    Attributes:
        request: Files, ranker, hyperparameters, seed, device.
        outputs: Where the report and the rest go; the report is required, and its study is used only with trials.
        train_on: Whether the last fit learns from the validation items as well.
        trials: Search the hyperparameters first with so many trials; 0: no search.
        cold: Also leave 5 % of the items out of training, and rank them by their content.
    """

    request: FitRequest
    outputs: Outputs
    train_on: TrainOn = "train"
    trials: int = 0
    cold: bool = False

    def run(self) -> dict[str, Any]:
        """Read the files, fit, judge, and write the report (JSON), which is returned as well.

        If a bundle or a program is wanted, the ranker is fitted once more on every event, including the test items. The
        validation items have chosen the length of that fit.

        Raises:
            SettingsError: A hyperparameter, a path or the export is not possible. Nothing was fitted.
            SourceError, ContractError: A file cannot be used; names file, column and row.
            PeriodError: There are too few items or users for cold items. Nothing was fitted.
            TrainingError, DeviceError: As `fit_ranker`.
        """
        outputs = self._checked_outputs()
        sequences = self.request.read()
        data = self.request.file_hashes()
        if self.cold:
            cold_split(sequences, seed=self.request.seed)  # raises before anything is fitted
        request, search = self._searched(sequences, outputs)
        given = dict(request.hyperparameters)
        own = request.checkpoints(outputs.checkpoints, sequences, self.train_on)
        context = request.context(own)
        fit = fit_and_judge(sequences, request.ranker, train_on=self.train_on, context=context, hyperparameters=given)
        report = self._report(fit, sequences, data, search)
        self._write(report)
        self._log_reading(self.request.interactions.name, self.train_on)
        if self.cold:
            report["cold"] = judge_cold_items(sequences, request.ranker, context=context, hyperparameters=given)
            self._log_reading(f"{self.request.interactions.name}, cold items", "train")
        lineage = {
            "data": data,
            "config": given,
            "seed": request.seed,
            "train_on": self.train_on,
            "code_version": request.code_version(),
        }
        difference = fit_and_keep(
            sequences,
            request.ranker,
            hyperparameters={**given, **fit.chosen},
            context=context,
            outputs=outputs,
            lineage={**lineage, "ndcg@10": report["ndcg@10"]},
        )
        if outputs.bundle is not None and is_first():
            report["bundle"] = str(outputs.bundle)
        if difference is not None:
            report["export"] = {"program": str(outputs.program), "largest_difference": difference}
        self._write(report)
        return report

    def _checked_outputs(self) -> Outputs:
        """The outputs after all checks. They name a study if there are trials, and none otherwise."""
        outputs, report = self.outputs, self.outputs.report
        if report is None:
            raise SettingsError("a benchmark needs a file for its report")
        study = outputs.study or report.with_name(f"{report.stem}-study.db")
        outputs = replace(outputs, study=study if self.trials else None)
        outputs.check(self.request)
        self.request.check()
        return outputs

    def _searched(self, sequences: Sequences, outputs: Outputs) -> tuple[FitRequest, dict[str, Any] | None]:
        """The request with the best hyperparameters of a search, and the facts of the search."""
        request = self.request
        if not self.trials or outputs.study is None:
            return request, None
        found = search_hyperparameters(
            sequences,
            request.ranker,
            trials=self.trials,
            study=outputs.study,
            data=request.data_identity(),
            context=request.context(),
            hyperparameters=request.hyperparameters,
        )
        facts = {"study": str(found.study), "trials": found.trials, "cpu_seconds": found.cpu_seconds}
        return replace(request, hyperparameters=found.best), {**facts, "hyperparameters": found.best}

    def _report(
        self, fit: JudgedFit, sequences: Sequences, data: dict[str, str | None], search: dict[str, Any] | None
    ) -> dict[str, Any]:
        low, high = (min(max(edge, 0.0), 1.0) for edge in mean_interval95(fit.test.ndcg_U()))  # NDCG lies in [0, 1]
        return {
            **fit.test.summary(),
            **fit.facts,
            "validation": None if fit.validation is None else fit.validation.summary(),
            "interval95": {"ndcg@10": [low, high]},
            "cold": None,
            "counts": sequence_counts(sequences),
            "protocol": PROTOCOL,
            "data": data,
            "search": search,
            "code_version": self.request.code_version(),
            **provenance(self.request.device),
        }

    def _write(self, report: dict[str, Any]) -> None:
        assert self.outputs.report is not None
        if is_first():
            write_text(self.outputs.report, json.dumps(report, indent=1, default=str))

    def _log_reading(self, data: str, train_on: str) -> None:
        readings, request = self.outputs.readings, self.request
        if readings is not None:
            facts = {"code_version": request.code_version(), **provenance(request.device)}
            log_reading(readings, data=data, ranker=request.ranker, train_on=train_on, seed=request.seed, facts=facts)
