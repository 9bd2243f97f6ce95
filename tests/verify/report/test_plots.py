"""The plots of the report, where something that they usually show is not known."""

from verify.report import plots


def test_a_rate_chosen_without_bias_labels_has_no_empty_panels_and_says_where_it_was_measured(trained):
    few = {"prunability": 0.8}
    info = trained.info.model_copy(
        update={
            "rule": "label-free",
            "points": [point.model_copy(update={"numbers": few}) for point in trained.info.points],
            "trials": [trial.model_copy(update={"numbers": few}) for trial in trained.info.trials],
        }
    )
    with_labels, without = plots.learning_rates(trained.info), plots.learning_rates(info)
    assert with_labels.count('id="axes_') == 3 and without.count('id="axes_') == 1
    assert "training images" in without and "validation split" not in without
    assert "validation split" in with_labels and "training images" not in with_labels
