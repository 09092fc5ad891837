"""Words by which a draft recognises columns: of English, Chinese, Spanish, German, French and Portuguese exports.

The lists are collected by hand from the public exports of shop systems, mail tools, click logs and published data sets.
Words are compared without case, accents, blanks and separators, so `Customer ID` is `customerid`.
"""

ENTITIES = {
    "user": (
        "user customer client member household householdkey shopper visitor person buyer account subscriber "
        "recipient consumer purchaser contact profile cust hshd loyaltycard card klaviyo loyalty reviewer "
        "kundenkarte treuekarte cartefidelite cpf tarjeta cartao domainuser fullvisitor userpseudo customerunique "
        "uid membership cookie 会员手机 手机 下单帐 帐 账 买家会员 买家昵称 用户 会员 客户 顾客 买家 消费者 访客 "
        "会员卡 cliente usuario comprador socio kunde kunden kaeufer kaufer besucher nutzer mitglied haushalt "
        "utilisateur acheteur membre foyer adherent"
    ),
    "item": (
        "item product sku article stock upc ean asin gtin barcode goods prod plu material variant lineitem "
        "lineitemsku productsku itemsku content listing movie film track song book isbn recipe referencia "
        "reference 商品 产品 货品 物品 宝贝 货号 条码 商家编码 商家 producto articulo artikel produkt ware "
        "produit produto artigo"
    ),
    "campaign": (
        "campaign promotion promo offer deal mailing newsletter promotionrule cartrule salesrule kampagnen "
        "aktionen aktions 活动 促销 营销活动 优惠活动 促销活动 campana campania promocion oferta kampagne aktion "
        "angebot werbeaktion campagne offre operation campanha promocao"
    ),
    "coupon": (
        "coupon voucher couponupc couponcode discountcode promocode vouchercode 优惠券 券 卡券 红包 优惠码 cupon "
        "cupom vale gutschein bondereduction codepromo"
    ),
    "order": (
        "order invoice basket transaction receipt ticket trans txn trx checkout salesorder bill purchase session "
        "cart 订单 交易 小票 单据 发票 流水 pedido factura compra bestellung bestell auftrag auftrags rechnung "
        "rechnungs beleg bon commande facture panier fatura"
    ),
    "line": (
        "line orderline orderitem lineid orderdetail saleslineitem 订单明细 子订单 明细 linea position ligne linha"
    ),
    "store": (
        "store shop branch outlet chain saleschannel channel seller merchant 门店 店铺 渠道 tienda filiale magasin loja"
    ),
    "event": "event log hit record row eventrecord 事件",
}
"""What a key identifies -> its words."""

KEYS = (
    "id no nr num number key code cod ref n uuid guid hash identifier uniqueid pseudoid # "
    "编号 号 号码 标识 代码 编码 卡号 序号 名 昵称 "
    "codigo numero clave nummer kennung numerocliente identifiant"
)
"""Words that make a key of an entity's word, before or after it: customer id, code client."""

COLUMNS = {
    "event_time": (
        "eventtime eventtimestamp ordertime orderdate orderedat orderpurchasetimestamp purchasetimestamp "
        "purchasedate purchasetime purchasedat boughtat createdat created creationdate datecreated orderplacedat "
        "placedat transactiontimestamp transactiondate transactiontime transactiondt transdate invoicedate "
        "invoicedatetime timestamp time timestampms timestampus tdat datetime ts dt date occurredat happenedat "
        "eventdate visittime visitdate viewtime clicktime logtime actiontime reviewdate reviewcreationdate "
        "reviewedat reviewtime processedat processedatforeign paidat paymentdate datepaid paiddate updatedat "
        "下单时间 下单日期 订单时间 订单日期 交易时间 交易日期 购买时间 购买日期 成交时间 创建时间 订单创建时间 "
        "订单付款时间 发生时间 行为时间 浏览时间 访问时间 点击时间 评论时间 评价时间 支付时间 付款时间 支付日期 "
        "时间 日期 时间戳 fechapedido fechacompra fechahora fecha fechadecompra fechadelpedido bestelldatum "
        "bestellzeit kaufdatum kaufzeit zeitpunkt zeitstempel rechnungsdatum datum zeit datecommande "
        "datedecommande dateachat datedachat horodatage datapedido datadopedido datacompra datahora data"
    ),
    "day_number": "day dayno daynumber",
    "clock": (
        "transtime time timeofday hour hourofday orderhourofday ordertime transactiontime uhrzeit heure hora 时刻 "
        "eventtime eventhour clock"
    ),
    "hours_since_start": "time hours",
    "days_since": "dayssincepriororder dayssincelastorder dayssinceprior dayssincepreviousorder",
    "sequence": "ordernumber ordersequence orderindex visitnumber seq sequence",
    "starts_at": (
        "startsat startdate starttime start startday startdt startts startedat validfrom fromdate from begin "
        "begindate begintime begins launchdate launchat launchtime launchedat activefrom firstday availablefrom "
        "datefrom 开始时间 开始日期 活动开始时间 活动开始日期 起始时间 起始日期 生效时间 上线时间 fechainicio "
        "inicio fechadeinicio desde beginn startdatum startzeit gueltigab gultigab gueltigvon gultigvon von "
        "datedebut debut datededebut datainicio datadeinicio"
    ),
    "ends_at": (
        "endsat enddate endtime end endday enddt endts endedat validto validuntil validthru validthrough todate "
        "to until expires finish finishes expirydate expiresat expirationdate activeto lastday availableuntil "
        "dateto finishdate 结束时间 结束日期 活动结束时间 活动结束日期 截止时间 截止日期 失效时间 到期时间 "
        "下线时间 fechafin fin fechadefin fechafinal hasta ende enddatum endzeit gueltigbis gultigbis bis datefin "
        "datedefin datafim fim datafinal datatermino"
    ),
    "duration_days": "duration durationdays validdays 有效天数",
    "targeted_at": (
        "targetedat sentat sendtime senddate sentdate senton sent senddatetime senttime mailedat maileddate "
        "mailed deliveredat contactedat contactdate exposedat exposuretime offerdate offeredat decidedat "
        "receivedat datesent timesent assignedat sendtimestamp campaignsendtime 发送时间 推送时间 触达时间 "
        "投放时间 发送日期 领取时间 fechaenvio gesendetam versanddatum dateenvoi datadeenvio dataenvio"
    ),
    "participated_at": (
        "participatedat redeemedat redemptiondate redemptiontime redeemeddate redeemedon usedat useddate usedtime "
        "claimedat convertedat conversiontime responsedate respondedat clickedat acceptedat usagedate redeemed "
        "used 核销时间 使用时间 兑换时间 参与时间 参加时间 fechacanje eingeloestam eingelostam datutilisation "
        "dateutilisation"
    ),
    "joined_at": (
        "joinedat joined joindate signupdate signup signupat registeredat registrationdate registered membersince "
        "since customersince becamememberon createdat created datecreated accountcreated accountcreatedat "
        "optintime profilecreatedon firstseen 注册时间 注册日期 入会时间 入会日期 开卡时间 fechaalta "
        "fecharegistro registriertam anmeldedatum dateinscription datacadastro kundeseit kundinseit mitgliedseit "
        "clientdepuis membredepuis clientedesde miembrodesde"
    ),
    "kind": (
        "typeoperation typedoperation operationtype transactiontype documenttype doctype movementtype belegart "
        "vorgang vorgangsart tipodocumento tipomovimiento tipooperacao saletype rowtype recordtype 单据类型 业务类型 "
        "kind eventtype eventname event type action actiontype behavior behaviour behaviortype behaviourtype "
        "activity activitytype interaction interactiontype metric metricname operation activityname 行为 行为类型 "
        "事件 事件类型 操作 操作类型 动作 类型 tipo tipoevento evento accion typ aktionstyp aktion ereignis "
        "typeevenement evenement acao tipodeevento"
    ),
    "status": (
        "status orderstatus state financialstatus paymentstatus orderstate transactionstatus fulfillmentstatus "
        "状态 订单状态 支付状态 交易状态 estado estadopedido bestellstatus statut statutcommande situacao"
    ),
    "cancelled_at": (
        "cancelledat canceledat cancelleddate canceleddate cancellationdate deletedat deleteddate voidedat "
        "refundedat 取消时间 退款时间"
    ),
    "flag": (
        "iscancelled iscanceled cancelled canceled storno storniert isdeleted deleted istest istestorder test "
        "testorder isvoid voided isrefunded annule annulee anulado anulada cancelado 是否取消 是否删除 是否测试"
    ),
    "return_flag": "isreturn isreturned returned return isrefund retoure retour devolucion 是否退货",
    "parent": "parentitemid parentid parentlineid",
    "label": (
        "redemptionstatus redeemed isredeemed redeem response responded isresponse repeater converted conversion "
        "isconverted label target participated tookpart accepted clicked used isused outcome y 是否参与 是否核销 "
        "是否转化 是否使用 是否购买 标签 canjeado eingeloest eingelost utilise resgatado"
    ),
    "quantity": (
        "quantity qty units pieces numunits numberofunits quantityordered qtyordered quantityrefund "
        "returnedquantity returnedqty quantityreturned qtyreturned itemquantity lineitemquantity purchasequantity "
        "itemqty unitssold noofitems unit count itemssold purchaseqty orderquantity 数量 件数 购买数量 商品数量 "
        "订购数量 购买数 购买件数 销售数量 cantidad unidades menge anzahl stueck stuck stueckzahl stuckzahl "
        "quantite qte quantidade qtd qtde"
    ),
    "amount": (
        "amount salesvalue linetotal rowtotal lineamount itemtotal subtotal totalprice netamount amountpaid paid "
        "pricepaid revenue itemrevenue netsales sales spend value purchaseamount salesamount totalamount "
        "extendedprice linesubtotal netrevenue ordervalue eventvalue paymentamount total itemlinetotal "
        "orderlinetotal productgross itemrefund 实付金额 结算金额 应付金额 买家实际支付金额 实付 支付金额 "
        "付款金额 成交金额 销售金额 销售额 金额 总价 小计 importe totallinea importetotal betrag summe umsatz "
        "gesamtpreis zeilensumme bezahlt gezahlt paye pagado montant montantttc ttc totalligne prixtotal montanttotal "
        "valor valortotal"
    ),
    "refund": (
        "refundamount refundedamount refund refundtotal amountrefunded erstattet erstattung rembourse remboursement "
        "reembolso reembolsado 退款金额"
    ),
    "unit_price": (
        "unitprice price itemprice priceeach lineitemprice itemcost productprice sellingprice saleprice "
        "salesprice retailprice pricepaidperunit unitcost priceperunit cost 单价 价格 京东价 售价 成交价 销售价 "
        "precio preciounitario preis einzelpreis stueckpreis stuckpreis prix prixunitaire preco precounitario "
        "valorunitario"
    ),
    "order_total": (
        "grandtotal ordertotal ordertotalamount totalpaid basegrandtotal purchaserevenue totalspent ordervalue "
        "totalsales orderamount 订单金额 订单总额 订单总价 实付总额 totalpedido gesamtbetrag bestellsumme "
        "totalcommande totaldopedido"
    ),
    "discount": (
        "discount retaildisc retaildiscount discountamount otherdiscount rebate lineitemdiscount itemdiscount "
        "linediscount discountvalue reduction shopdiscount totaldiscount 折扣 优惠金额 折扣金额 优惠 让利 "
        "descuento rabatt nachlass remise desconto"
    ),
    "coupon_discount": (
        "coupondiscount coupondisc couponmatchdisc voucherdiscount couponamount couponvalue couponamountoff "
        "优惠券金额 券金额 优惠券抵扣 券抵扣金额 gutscheinwert gutscheinrabatt"
    ),
    "currency": ("currency currencycode ordercurrency basecurrencycode 币种 货币 moneda waehrung wahrung devise moeda"),
    "rating": (
        "rating stars score reviewscore reviewrating starrating overall 评分 星级 评价分数 valoracion puntuacion "
        "bewertung sterne note nota avaliacao"
    ),
    "text": (
        "text reviewtext reviewcommentmessage comment reviewbody review reviewcontent body content message "
        "评论内容 评价内容 评论 评价 comentario kommentar commentaire"
    ),
    "query": (
        "query searchterm searchwords searchquery searchkeywords keywords search searchphrase 搜索词 关键词 "
        "搜索内容 busqueda suchbegriff suche recherche busca"
    ),
    "dwell_s": ("dwells dwelltime dwell timeonpage durations staytime secondsonpage engagementtimes 停留时长 停留时间"),
    "page": "page pageurl url pagelocation pagepath screen screenname path 页面 网址",
    "device": (
        "device devicetype devicecategory platform os devicename 设备 设备类型 终端 dispositivo geraet appareil"
    ),
    "location": "location geocountry geocity eventcity lbs 地点 位置",
    "propensity": "propensity probability treatmentprobability assignmentprobability 倾向分",
    "age_band": ("ageband age agegroup agerange agedesc agebucket 年龄 年龄段 年龄层 edad alter altersgruppe idade"),
    "gender": "gender sex 性别 sexo genero geschlecht sexe genre",
    "income_band": (
        "incomeband income incomebracket incomerange incomedesc incomegroup 收入 收入水平 ingresos einkommen "
        "revenu renda"
    ),
    "household_size": "householdsize householdsizedesc familysize hhsize 家庭人数 家庭规模",
    "household_type": "householdtype hhcompdesc householdcomp householdcomposition 家庭类型",
    "num_children": (
        "numchildren kidcategorydesc kidscount noofchildren children kids kidscategory 子女数 hijos kinder"
    ),
    "home_ownership": "homeownership homeownerdesc homeowner rented 住房",
    "marital_status": "maritalstatus maritalstatuscode married 婚姻 婚姻状况 estadocivil familienstand",
    "region": (
        "region state city country zip postcode zipcode postalcode pincode province area customercity "
        "customerstate shippingcountry 地区 省份 城市 所在城市 区域 国家 邮编 邮政编码 ciudad pais provincia ort "
        "stadt land plz ville pays cidade estado uf"
    ),
    "name": (
        "name title productname itemname prodname producttitle productdescription lineitemname stockname "
        "displayname campaignname promotionname offername campaigntitle subject headline articlename rulename "
        "label 商品名称 商品名 产品名称 名称 品名 标题 活动名称 活动名 活动标题 促销名称 nombre nombreproducto "
        "bezeichnung produktname artikelname titel nom nomproduit libelle nome nomeproduto titulo"
    ),
    "description": (
        "description desc detaildesc details longdescription longtext shortdescription itemdescription 描述 "
        "商品描述 活动描述 说明 descripcion beschreibung descricao"
    ),
    "product_type": (
        "producttype subcategory subcommoditydesc producttypename subclass productsubclass subgroup "
        "productsubcategory aisle 子类 小类 子类目 二级类目 三级类目 产品小类 subcategoria unterkategorie "
        "souscategorie"
    ),
    "category": (
        "category group family productcategory categoryname productcategoryname commodity commoditydesc "
        "categoryid cat catid itemcategory productgroupname itemcategoryid categorycode productgroup 类目 品类 "
        "分类 商品类目 商品分类 类别 类目id 一级类目 产品大类 商品类别 categoria kategorie warengruppe categorie"
    ),
    "department": (
        "department dept departmentname indexgroupname division section garmentgroupname deptid departmentid 大类 "
        "部门 departamento abteilung rayon departement"
    ),
    "brand": "brand brandname brandid itembrand 品牌 品牌名称 marca marke marque vendor",
    "manufacturer": (
        "manufacturer maker producer supplier manufacturerid company 厂商 供应商 生产商 hersteller fabricant"
    ),
    "package_size": ("packagesize currsizeofproduct size packsize productsize 规格 包装 tamano groesse grosse taille"),
    "price": (
        "price listprice rrp msrp regularprice catalogprice unitprice retailprice itemprice baseprice "
        "variantprice 价格 标价 原价 吊牌价 售价 precio preis listenpreis prix preco"
    ),
    "campaign_type": (
        "campaigntype promotiontype type category offertype channel description discounttype campaignkind "
        "promotype 活动类型 类型 促销类型 tipo typ art"
    ),
}
"""Column of the contract, or what a draft reads beside them, -> its words, the likeliest first."""

MOMENTS = {
    "event_time": (
        "order ordered purchase purchased bought sold sale sales placed paid created viewed view clicked click "
        "added add booked booking visited visit occurred happened transaction invoice checkout event log logged "
        "action review reviewed search searched rated rating played play listened returned return refunded refund "
        "posted entry receipt collector derived server venda compra pedido venta verkauf verkaufs kauf bestell "
        "vente commande achat ticket beleg streamed watched read bestellt gekauft verkauft bezahlt verfasst "
        "geschrieben bewertet gesehen geklickt gesucht besucht retour retourniert zurueckgegeben zuruckgegeben "
        "erstattet erstellt commandee achete achetee vendu paye payee cree creee ecrit rembourse pedido comprado "
        "vendido pagado pago creado criado escrito devuelto devolvido"
    ),
    "starts_at": "start starts begin begins validfrom launch opens open active live",
    "ends_at": ("end ends finish finishes close closes expiry expires expire validuntil validto validthru"),
    "joined_at": (
        "join joined signup registered registration enrolled enrolment membersince since registriert angemeldet "
        "beigetreten inscrit registrado inscrito"
    ),
    "targeted_at": (
        "sent send sends mailed delivered dispatched issued targeted exposed assigned pushed offered verschickt "
        "versendet versandt gesendet zugestellt envoye envoyee enviado enviada"
    ),
    "participated_at": (
        "redeemed redeem redemption used converted claimed accepted responded eingeloest eingelost genutzt angenommen "
        "utilise utilisee canjeado usado resgatado"
    ),
}
"""Meaning -> what happened at a time: with one of TIME_ENDS behind it, it is a column of that meaning."""

TIME_ENDS = (
    "on",
    "at",
    "date",
    "time",
    "ts",
    "dt",
    "tstamp",
    "datetime",
    "timestamp",
    "moment",
    "gmt",
    "utc",
    "data",
    "fecha",
    "datum",
    "zeit",
    "hora",
    "am",
    "um",
    "em",
)
"""Words that make a time of what happened."""

CURRENCIES = (
    "eur usd gbp chf jpy cny rmb sek nok dkk pln czk huf ron bgn try rub uah brl mxn ars clp cop pen cad aud nzd inr "
    "krw twd hkd sgd thb idr myr vnd php zar aed sar ils euro euros"
)
"""Words before or behind an amount that say its currency: Preis CHF."""

CENTS = ("cents", "cent", "minor", "pence", "centimes", "centavos", "fen")
"""Words behind an amount that is in hundredths of the currency."""

EMAILS = "email emailaddress mail customeremail useremail contactemail billingemail buyeremail 邮箱 电子邮箱 correo"
"""Words of a mail address: it identifies a user where nothing else does."""

TABLE_WORDS = {
    "events": (
        "event order transaction purchase click log receipt sale behavior behaviour history activity transcript "
        "invoice journal retail view visit online_retail 订单 行为 交易 日志 流水 pedido venta bestellung verkauf "
        "commande vente"
    ),
    "campaigns": ("campaign promotion offer deal portfolio rule 活动 促销 campana promocion kampagne aktion campagne"),
    "campaign_items": "campaignitem campaignproduct couponitem offeritem promotionitem 活动商品 couponproduct",
    "targets": ("target mailing audience recipient contact exposure train sent campaigntable sends 投放 触达 发送"),
    "participations": ("participation redemption redempt redeem response claim conversion 核销 参与 兑换 respuesta"),
    "users": ("user customer member household demographic shopper client profile visitor 用户 会员 客户 cliente kunde"),
    "items": "item product article catalog goods sku stock 商品 产品 producto artikel produkt produit",
}
"""Table -> words in the names of files that hold it."""
