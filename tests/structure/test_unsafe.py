"""Nothing that the project reads can run code: no pickles, no YAML objects, no eval, no shell."""

import ast

import pytest

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
"""`pipeline.operators.weights` imports the name of an exception from pickle: what torch raises for damaged files."""
ALLOWED_NAMES = {"pickle.UnpicklingError"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"}


def _problems(tree):
    """Line and text of everything unsafe in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [f"{getattr(node, 'module', None) or ''}.{alias.name}".strip(".") for alias in node.names]
            yield from ((node.lineno, n) for n in names if n.split(".")[0] in MODULES and n not in ALLOWED_NAMES)
        elif isinstance(node, ast.Call):
            yield from ((node.lineno, text) for text in _calls(node))


def _calls(node):
    name = ast.unparse(node.func)
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if name in FORBIDDEN_CALLS or options.get("shell") == "True":
        yield name
    if name.endswith("torch.load") and options.get("weights_only") != "True":
        yield f"{name} without weights_only=True"
    if options.get("allow_pickle", "False") != "False":
        yield f"{name} with allow_pickle"
    if name.endswith(("read_pickle", "to_pickle")):
        yield name


def test_nothing_that_is_read_can_run_code(modules):
    assert [f"{m.name}:{line} {what}" for m in modules for line, what in _problems(m.tree)] == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "import joblib", "import torch\ntorch.load(f)", "eval(text)"),
        *("np.load(f, allow_pickle=True)", "np.save(f, a, allow_pickle=True)", "yaml.load(t, Loader=L)"),
        *("subprocess.run(c, shell=True)", "torch.load(f, weights_only=False)", "pd.read_pickle(f)"),
    ],
)
def test_the_search_finds_what_it_looks_for(source):
    assert list(_problems(ast.parse(source)))
