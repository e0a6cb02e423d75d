"""The templates that exist from the start: of each kind one, and three that cannot be sent."""

from typing import Any, Literal

Status = Literal["APPROVED", "PENDING", "REJECTED", "PAUSED", "DISABLED"]
Row = tuple[str, str, str, Status, list[dict[str, Any]]]
SEED: tuple[Row, ...] = (
    (
        "hello_world",
        "en_US",
        "UTILITY",
        "APPROVED",
        [
            {"type": "HEADER", "format": "TEXT", "text": "Hello World"},
            {"type": "BODY", "text": "Welcome and congratulations! This message shows it works."},
            {"type": "FOOTER", "text": "WhatsApp Business Platform sample message"},
        ],
    ),
    (
        "order_update",
        "en_US",
        "UTILITY",
        "APPROVED",
        [
            {
                "type": "BODY",
                "text": "Hello {{1}}, your order {{2}} is on its way to you.",
                "example": {"body_text": [["Ana", "4711"]]},
            }
        ],
    ),
    (
        "order_update",
        "pt_BR",
        "UTILITY",
        "APPROVED",
        [
            {
                "type": "BODY",
                "text": "Olá {{1}}, seu pedido {{2}} está a caminho.",
                "example": {"body_text": [["Ana", "4711"]]},
            }
        ],
    ),
    (
        "appointment_reminder",
        "en_US",
        "UTILITY",
        "APPROVED",
        [
            {
                "type": "BODY",
                "text": "Dear {{name}}, we expect you on {{day}} at our place.",
                "example": {
                    "body_text_named_params": [
                        {"param_name": "name", "example": "Ana"},
                        {"param_name": "day", "example": "Monday"},
                    ]
                },
            },
            {
                "type": "BUTTONS",
                "buttons": [
                    {"type": "QUICK_REPLY", "text": "I will come"},
                    {"type": "QUICK_REPLY", "text": "Cancel"},
                ],
            },
        ],
    ),
    (
        "verification_code",
        "en_US",
        "AUTHENTICATION",
        "APPROVED",
        [
            {
                "type": "BODY",
                "text": "*{{1}}* is your verification code.",
                "example": {"body_text": [["123456"]]},
            },
            {
                "type": "BUTTONS",
                "buttons": [
                    {
                        "type": "URL",
                        "text": "Copy code",
                        "url": "https://www.whatsapp.com/otp/code/?otp_type=COPY_CODE&code={{1}}",
                        "example": ["https://www.whatsapp.com/otp/code/?code=123456"],
                    }
                ],
            },
        ],
    ),
    (
        "season_sale",
        "en_US",
        "MARKETING",
        "APPROVED",
        [
            {
                "type": "HEADER",
                "format": "IMAGE",
                "example": {"header_handle": ["https://shop.example/sale.jpg"]},
            },
            {
                "type": "BODY",
                "text": "Good news, {{1}}: everything is cheaper until Sunday.",
                "example": {"body_text": [["Ana"]]},
            },
            {
                "type": "BUTTONS",
                "buttons": [
                    {
                        "type": "URL",
                        "text": "Shop",
                        "url": "https://shop.example/sale/{{1}}",
                        "example": ["https://shop.example/sale/summer"],
                    }
                ],
            },
        ],
    ),
    (
        "newsletter",
        "en_US",
        "MARKETING",
        "APPROVED",
        [{"type": "BODY", "text": "This is our monthly letter. Reply STOP to leave the list."}],
    ),
    ("paused_offer", "en_US", "MARKETING", "PAUSED", [{"type": "BODY", "text": "Paused."}]),
    ("disabled_offer", "en_US", "MARKETING", "DISABLED", [{"type": "BODY", "text": "Disabled."}]),
    ("pending_offer", "en_US", "MARKETING", "PENDING", [{"type": "BODY", "text": "In review."}]),
)
