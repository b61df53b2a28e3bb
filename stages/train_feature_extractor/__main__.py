"""Stage ``train_feature_extractor``: train a classifier, or take a pretrained network for unlabelled images.

Where the images have captions, train a contrastive pair of images and captions with it.
"""

from latentline.core.files import replaced_folder
from latentline.core.labels import schema_to_json
from latentline.core.load_params import load
from latentline.core.paths import FEATURE_EXTRACTOR, FIGURES, METRICS, PREPARED
from latentline.core.stage import run_stage
from latentline.data.store import read_card, read_split
from latentline.feature_extractors.load import with_pair
from latentline.runtime.checkpoint import save_checkpoint
from latentline.runtime.compile import compiled, require_compiler
from latentline.runtime.start import start
from stages.train_feature_extractor.captions import read_tokens
from stages.train_feature_extractor.params import FeatureExtractorParams
from stages.train_feature_extractor.report import report, report_untrained
from stages.train_feature_extractor.train import build, saving_for, train, training_of


def main() -> None:
    """Read section ``feature_extractor`` and data/prepared; write the checkpoint, fig/ and metrics/ of this stage."""
    params, seed, compute = load("feature_extractor", FeatureExtractorParams)
    device, ranks = start(compute)
    require_compiler(compute.compile, device)
    card, train_split = read_card(PREPARED), read_split(PREPARED, "train")
    captions = read_tokens(params.captions)
    extractor = build(params, card, train_split.labels.values, seed, device, captions)
    training, saving = training_of(params), saving_for(params, card, seed, compute)
    history, learns = [], bool(card.schema or captions)
    if learns:
        walks_graph_once = params.optimizer.accumulate == 1
        with compiled(compute.compile, device, extractor.graph_modules, walks_graph_once=walks_graph_once):
            history = train(
                extractor,
                card.schema,
                train_split,
                read_split(PREPARED, "val"),
                training,
                device=device,
                seed=seed,
                saving=saving,
                ranks=ranks,
                captions=captions,
            )
    ranks.exit_non_main()

    tensors, pair = extractor.network.state_dict(), extractor.pair
    save_checkpoint(
        FEATURE_EXTRACTOR,
        kind="feature_extractor",
        name=extractor.name,
        constructor=extractor.constructor,
        trained_on=card.sha256 | {f"captions-{name}": digest for name, digest in card.captions.items()},
        tensors=with_pair(tensors, pair.model.pair) if pair else tensors,
        settings={"schema": schema_to_json(card.schema), "training": training.to_json()}
        | ({"captions": pair.to_json()} if pair else {}),
    )
    metrics_file = METRICS / "feature_extractor.json"
    with replaced_folder(FIGURES / "feature_extractor") as folder:
        if learns:
            test = read_split(PREPARED, "test")
            report(metrics_file, folder, extractor, card.schema, test, history, device, seed, captions)
        else:
            report_untrained(metrics_file, folder, extractor.name)
    saving.file.finish()


if __name__ == "__main__":
    run_stage("train_feature_extractor", main)
