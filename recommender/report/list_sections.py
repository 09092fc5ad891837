"""Section of the evaluation page about whole lists: coverage, variety, calibration and gaps between shopper groups."""

from recommender.evaluation.document import Evaluation, ListResult
from recommender.evaluation.list_results import CAUGHT, COVERAGE, LIST_METRICS, OPPORTUNITY_GAP
from recommender.report.axes import Html
from recommender.report.estimates import interval_row, role_of, written
from recommender.report.intervals import interval_chart
from recommender.report.page import Section, fold, paragraph, table

DIRECTIONS = {"higher": "higher is better", "lower": "lower is better", "neither": "neither is better by itself"}


def lists_section(evaluation: Evaluation, lists: ListResult, title: str) -> Section:
    """Show what the lists of all rankers are like beyond accuracy."""
    rankers = [name for name in evaluation.candidates if name in lists.rankers]
    charts = [
        interval_chart(
            f"{LIST_METRICS[metric].title.capitalize()}: {DIRECTIONS[LIST_METRICS[metric].direction]}",
            [interval_row(name, lists.rankers[name][metric]) for name in rankers],
            axis=LIST_METRICS[metric].title,
        )
        for metric in (CAUGHT, COVERAGE, OPPORTUNITY_GAP)
    ]
    order = "in the order of the scores"
    if lists.rerank != "none":
        order = f"re-ranked ({lists.rerank}, trade-off {lists.trade_off:g})"
    return Section(
        title,
        lead=(
            f"The lists that serving would give each user at the last decision in the period, {order}: the first "
            f"{lists.cut} campaigns with {lists.num_items} items each. Candidates are all campaigns that were live and "
            "that the user had not taken up. Intervals come from a bootstrap over users."
        ),
        facts={
            "users": lists.num_lists,
            "campaigns that were live": lists.num_campaigns,
            "later participations in them": lists.num_participations,
        },
        figures=charts,
        blocks=[
            _metrics(evaluation, lists, rankers),
            fold("What these figures are", _meanings()),
            _gaps(lists),
            fold(f"All {len(lists.groups)} groups of shoppers", _groups(lists)),
        ],
    )


def _metrics(evaluation: Evaluation, lists: ListResult, rankers: list[str]) -> Html:
    rows = [
        [
            one.title,
            *(written(lists.rankers[name][metric]) for name in rankers),
            written(lists.differences[metric]),
        ]
        for metric, one in LIST_METRICS.items()
    ]
    named = [f"{name} ({role_of(evaluation, name)})" for name in rankers]
    places = "place" if lists.top == 1 else f"{lists.top} places"
    caption = f"A participation is caught if its campaign stands at the first {places} of the list"
    return table(["figure", *named, "gain"], rows, caption=f"{caption}. Gain: challenger minus champion")


def _meanings() -> Html:
    rows = [[one.title, DIRECTIONS[one.direction], one.words] for one in LIST_METRICS.values()]
    return table(["figure", "direction", "what it is"], rows)


def _gaps(lists: ListResult) -> Html:
    if not lists.axes:
        return paragraph("No segment has two groups that are large enough to be compared.")
    both = list(lists.axes[0].opportunity_gap)
    rows = [
        [
            one.axis.replace("_", " "),
            *(written(one.opportunity_gap[name]) for name in both),
            *(written(one.exposure_gap[name]) for name in both),
        ]
        for one in lists.axes
    ]
    columns = ["segment", *(f"opportunity gap of {n}" for n in both), *(f"exposure gap of {n}" for n in both)]
    return table(
        columns, rows, caption="Gaps between the groups of each segment; groups that are too small are left out"
    )


def _groups(lists: ListResult) -> Html:
    both = list(dict.fromkeys(name for group in lists.groups for name in group.caught))
    rows = [
        [
            f"{group.axis.replace('_', ' ')}: {group.value}",
            group.num_lists,
            group.num_participations,
            *(written(group.caught[name]) if group.judged else "too few" for name in both),
        ]
        for group in lists.groups
    ]
    return table(["group", "users", "later participations", *(f"caught by {name}" for name in both)], rows)
