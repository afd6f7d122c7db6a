"""What transformers renders from the templates of test/fixtures/templates: the forms that model families use.

    python scripts/goldens/chat_templates.py test/fixtures/templates > test/golden/chat-templates.json
"""

import json
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
USER = {"role": "user", "content": "  What is 2+2? <b>& \"é\" 数\n"}
SYSTEM = {"role": "system", "content": "Be brief."}
ANSWER = {"role": "assistant", "content": " Four. "}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "description": "It's <now>", "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Köln", "O'Hare"]}}, "required": ["city"]}},
}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 3, "precise": True, "unit": None}}}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": '{"sky": "clear"}'}
CONVERSATIONS = {
    "one question": {"messages": [USER]},
    "system and question": {"messages": [SYSTEM, USER]},
    "three turns": {"messages": [SYSTEM, USER, ANSWER, USER]},
    "without generation prompt": {"messages": [USER, ANSWER], "add_generation_prompt": False},
    "roles out of order": {"messages": [USER, USER]},
    "tools": {"messages": [SYSTEM, USER, CALL, RESULT, RESULT], "tools": [TOOL, TOOL]},
    "variables": {"messages": [USER], "variables": {"enable_thinking": False, "date_string": "1 May 2026"}},
    "documents": {"messages": [USER], "documents": [{"title": "a", "text": "b"}, {"title": "c"}]},
    "continued": {"messages": [USER, {"role": "assistant", "content": "It is f"}], "continue_final_message": True, "add_generation_prompt": False},
}

cases = []
for path in sorted(Path(sys.argv[1]).glob("*.jinja")):
    for name, given in CONVERSATIONS.items():
        if name == "tools" and path.name != "chatml.jinja":
            continue
        continues = given.get("continue_final_message", False)
        generates = given.get("add_generation_prompt", True)
        case = {
            "template": path.name,
            "name": name,
            "messages": given["messages"],
            "tools": given.get("tools"),
            "documents": given.get("documents"),
            "variables": given.get("variables", {}),
            "addGenerationPrompt": generates,
            "continueFinalMessage": continues,
        }
        try:
            [case["text"]], _ = render_jinja_template(
                conversations=[given["messages"]],
                tools=given.get("tools"),
                documents=given.get("documents"),
                chat_template=path.read_text(),
                continue_final_message=continues,
                add_generation_prompt=generates,
                **TOKENS,
                **given.get("variables", {}),
            )
        except Exception as error:
            case["error"] = str(error)
        cases.append(case)
json.dump({"madeBy": "scripts/goldens/chat_templates.py", "specialTokens": TOKENS, "cases": cases}, sys.stdout, indent=1, ensure_ascii=False)
print()
