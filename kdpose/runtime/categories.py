"""Which annotations of a file are persons: those of the categories that have the joints."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Id = Any  # a whole number in most files, a name in some


def category_joints(category: Any) -> tuple[str, ...]:
    """The joint names of a COCO category, without spaces at their ends; empty if it has none."""
    names = category.get("keypoints") if isinstance(category, dict) else None
    return tuple(str(name).strip() for name in names) if isinstance(names, list) else ()


def category_id(entry: Mapping[str, Any], key: str = "category_id") -> Id:
    """The id of an entry's category, see :func:`plain_id`; None for none."""
    return plain_id(entry.get(key))


def plain_id(value: Any) -> Id:
    """An id: 3, 3.0 and "3" are the same."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return repr(value) if isinstance(value, list | dict) else value  # which can be looked up


@dataclass(frozen=True)
class People:
    """The categories whose annotations are persons.

    Attributes:
        ids: of these categories, in the file's order; empty where the file does not tell.
        others: names of the file's other categories, by id.
        named: ids of the others that have keypoints.
        asked: only these ids count; else whatever is not of the others does.
    """

    ids: tuple[Id, ...] = ()
    others: Mapping[Id, str] = field(default_factory=dict)
    named: frozenset[Id] = frozenset()
    asked: bool = False

    def has(self, annotation: Any) -> bool:
        """Whether an annotation is a person; what is no object is left to later checks."""
        return self.has_id(category_id(annotation)) if isinstance(annotation, dict) else True

    def has_id(self, number: Id) -> bool:
        """Whether annotations of a category are persons."""
        return number in self.ids if self.asked else number not in self.others

    def left_out(self, annotations: Iterable[Any]) -> dict[str, int]:
        """Numbers of annotations with keypoints of the other categories, by name."""
        count: Counter[Id] = Counter()
        for one in annotations:
            if isinstance(one, dict) and not self.has(one):
                number = category_id(one)
                count[number] += number in self.named or bool(one.get("keypoints"))
        return self.told(count)

    def told(self, count: Mapping[Id, int]) -> dict[str, int]:
        """Numbers of annotations by the names of categories instead of their ids."""
        return {f"{self.others.get(i, i)} ({i})": n for i, n in count.items() if n}


def people(
    categories: Any, asked: str | int | None = None, where: str = "", alike: bool = True
) -> People:
    """Choose categories.

    Args:
        categories: of a file.
        asked: the name or id of the only one wanted; None: all that have keypoints.
        where: the file, for the error.
        alike: with keypoints, only those with the joints of the first such category count.

    Raises:
        ValueError: no category is called so.
    """
    listed = [c for c in categories or () if isinstance(c, dict)]
    names = {category_id(c, "id"): str(c.get("name")) for c in listed}
    joints = {category_id(c, "id"): category_joints(c) for c in listed}
    first = next((j for j in joints.values() if j), ())
    if asked is not None:
        chosen = [i for i, name in names.items() if str(asked) in (name, str(i))]
        if not chosen:
            known = ", ".join(f"{name} ({i})" for i, name in names.items()) or "none"
            raise ValueError(f"{where} has no category '{asked}': it has {known}")
    elif first:
        chosen = [i for i, j in joints.items() if j and (j == first or not alike)]
    else:
        return People()
    others = {i: name for i, name in names.items() if i not in chosen}
    named = frozenset(i for i in others if joints[i])
    return People(tuple(chosen), others, named, asked is not None)


def of_people(
    content: Mapping[str, Any], asked: str | int | None = None, where: str = ""
) -> tuple[dict[str, Any], str]:
    """A file's content with persons alone, and a line on the others with keypoints, if any.

    Args:
        content: of an annotation file.
        asked: see :func:`people`.
        where: the file, for messages.

    Raises:
        ValueError: see :func:`people`.
    """
    chosen = people(content.get("categories"), asked, where)
    annotations = content.get("annotations")
    if not chosen.ids and isinstance(annotations, list):
        chosen = _with_joints(content.get("categories"), annotations)
    if not isinstance(annotations, list) or not (chosen.others or chosen.asked):
        return dict(content), ""
    kept = [one for one in annotations if chosen.has(one)]
    categories = [c for c in content["categories"] if category_id(c, "id") in chosen.ids]
    said = told(chosen.left_out(annotations)) if asked is None else ""
    return {**content, "categories": categories, "annotations": kept}, said


def _with_joints(categories: Any, annotations: Sequence[Any]) -> People:
    """Of a file that names no joints, the categories that annotations with joints have."""
    persons = [one for one in annotations if isinstance(one, dict) and one.get("keypoints")]
    having = {category_id(one) for one in persons}
    listed = [c for c in categories or () if isinstance(c, dict)]
    names = {category_id(c, "id"): str(c.get("name")) for c in listed}
    if not having & names.keys():
        return People()
    others = {i: name for i, name in names.items() if i not in having}
    return People(tuple(i for i in names if i in having), others)


def told(left_out: Mapping[str, int]) -> str:
    """A line on annotations of other categories; empty where there are none."""
    if not left_out:
        return ""
    counted = ", ".join(f"{n} of {name}" for name, n in left_out.items())
    return (
        f"annotations of categories with other joints are left out: {counted}; category=NAME takes "
        "one"
    )


def classes(content: Mapping[str, Any]) -> dict[Id, str]:
    """The categories whose persons are scored apart, by id: those listed that have persons.

    Args:
        content: of an annotation file, of persons alone.
    """
    listed = {category_id(c, "id"): str(c.get("name")) for c in content.get("categories") or ()}
    persons: Sequence[Any] = content.get("annotations") or ()
    present = {category_id(one) for one in persons if one.get("keypoints")}
    names = Counter(listed.values())
    return {
        i: name if names[name] == 1 else f"{name} ({i})"
        for i, name in listed.items()
        if i in present
    }
