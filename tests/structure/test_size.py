"""Files and functions stay small enough to be read at once, and public names say what they are. Bounds only fall."""

import ast
import statistics

FILE_LINES = 400
FUNCTION_LINES = 60
FUNCTION_LINES_P90 = 35
FUNCTION_LINES_MEDIAN = 12


def _is_documented(node):
    return ast.get_docstring(node, clean=False) is not None


def _length(function):
    """Lines from the signature to the end, the docstring left out."""
    first = function.body[0]
    documented = first.end_lineno - first.lineno + 1 if _is_documented(function) else 0
    return function.end_lineno - function.lineno + 1 - documented


def _definitions(tree):
    """Public functions and classes of a module, and the methods of these classes."""
    public = [node for node in tree.body if not getattr(node, "name", "_").startswith("_")]
    for node in public:
        yield node
        if isinstance(node, ast.ClassDef):
            yield from (method for method in node.body if isinstance(method, ast.FunctionDef))


def test_files_are_short(modules):
    lengths = {module.name: len(module.path.read_text(encoding="utf-8").splitlines()) for module in modules}
    assert {name: n for name, n in lengths.items() if n > FILE_LINES} == {}


def test_functions_are_short(modules):
    lengths = {f"{m.name}:{f.name}": _length(f) for m in modules for f in m.functions()}
    assert {name: n for name, n in lengths.items() if n > FUNCTION_LINES} == {}
    assert statistics.median(lengths.values()) <= FUNCTION_LINES_MEDIAN
    assert statistics.quantiles(lengths.values(), n=10)[-1] <= FUNCTION_LINES_P90


def test_modules_and_public_names_are_documented(modules):
    bare = [module.name for module in modules if not _is_documented(module.tree)]
    for module in modules:
        definitions = [node for node in _definitions(module.tree) if not node.name.startswith("_")]
        # What a protocol documents, its implementations beside it need not say again.
        documented = {node.name for node in definitions if _is_documented(node)}
        bare += [f"{module.name}:{node.lineno} {node.name}" for node in definitions if node.name not in documented]
    assert not bare


def test_exceptions_are_caught_by_name(modules):
    broad = [
        f"{module.name}:{node.lineno}"
        for module in modules
        if module.name != "pipeline.faults"  # the one failure boundary: a frame's failure costs no other frame
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"})
    ]
    assert not broad
